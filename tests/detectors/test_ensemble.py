"""The ensemble: the highest of its members' scores, in multiples of normal."""

import math

import pytest
import torch

import augmentations
import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors import Classifier, ClassifierSettings, Ensemble
from detectors.ensemble import highest
from tests.detectors.test_base import DetectorContract


def member(augmentation, seed=0, steps=3, **ranges):
    settings = ClassifierSettings("small", 32, head=(8,), steps=steps, batch=4)
    return Classifier(settings, augmentations.make(augmentation, **ranges), seed=seed, device="cpu")


class TestEnsemble(DetectorContract):
    def make(self, *, seed=0, channels=1):
        return Ensemble([member("cutout", seed), member("cutpaste", seed)])

    def learn(self):
        return Ensemble([member("cutout", steps=60, area=(0.03, 0.15)), member("cutpaste", steps=60)])


@pytest.fixture(scope="module")
def ensemble(striped):
    images = striped(16)
    trained = [member("cutout", steps=20).fit(images[:12]), member("cutpaste", steps=20).fit(images[:12])]
    return Ensemble.of(trained, images[12:])


def test_a_member_that_measures_in_other_units_changes_nothing():
    draws = torch.rand(2, 40, generator=torch.Generator().manual_seed(0)) + 0.1
    normal, new = draws[:, :20], draws[:, 20:]
    expected = highest(list(new), [float(scores.mean()) for scores in normal])
    scaled = highest([new[0], 1000 * new[1]], [float(normal[0].mean()), 1000 * float(normal[1].mean())])
    torch.testing.assert_close(scaled, expected)


@pytest.mark.parametrize("mean", [0.0, math.nan, math.inf])
def test_nothing_is_measured_by_a_mean_that_is_no_distance(ensemble, striped, monkeypatch, mean):
    images = striped(3)
    monkeypatch.setattr(Classifier, "score_and_map", lambda self, x: (torch.full((3,), mean), torch.ones(3, 32, 32)))
    with pytest.raises(FloatingPointError, match="no measure"):
        Ensemble.of(ensemble.members, images)


def test_a_member_whose_scores_are_no_distances_is_refused(ensemble, monkeypatch):
    monkeypatch.setattr(ensemble.members[0], "score_is_distance", False)
    with pytest.raises(InputError, match="distances"):
        Ensemble(ensemble.members)


def test_one_member_that_sees_an_anomaly_is_enough():
    """Where members see different kinds, the highest finds both kinds and the average neither as well."""
    source = torch.Generator().manual_seed(0)
    normal, test = torch.randn(8, 200, generator=source).exp(), torch.randn(8, 200, generator=source).exp()
    test[0, :20] *= 40
    test[1, 20:40] *= 40
    found = highest(list(test), [float(scores.mean()) for scores in normal])
    average = test.argsort(1).argsort(1).double().mean(0)
    anomalous = torch.arange(200) < 40

    def auroc(scores):
        return (scores[anomalous][:, None] > scores[~anomalous]).double().mean().item()

    assert auroc(found) > 0.9 > auroc(average) + 0.1


def test_scores_and_maps_are_the_highest_of_the_members(ensemble, striped):
    images, normal = striped(5, seed=1), striped(16)[12:]
    for method in ("score", "score_map"):
        by_hand = [getattr(each, method)(images) / getattr(each, method)(normal).mean() for each in ensemble.members]
        torch.testing.assert_close(getattr(ensemble, method)(images), torch.maximum(*by_hand))


def test_pseudo_anomalies_are_the_members_in_turns(ensemble, striped):
    images = striped(6, seed=1)
    found = ensemble.pseudo_anomalies(images, generator(0))
    source = generator(0)
    for turn, each in enumerate(ensemble.members):
        assert torch.equal(found[turn::2], each.pseudo_anomalies(images[turn::2], source))


def test_no_member_is_refused(striped):
    for make in (lambda: Ensemble([]), lambda: Ensemble.of([], striped(3))):
        with pytest.raises(InputError, match="0 detectors"):
            make()


def test_means_of_other_members_are_refused(ensemble):
    with pytest.raises(InputError, match="1 and 2 means"):
        Ensemble(ensemble.members).measured_by(ensemble.normal[:1], ensemble.normal_in_maps)


def test_fit_holds_images_out_to_measure_by(striped, monkeypatch):
    images = striped(20)
    seen = []
    fit = Classifier.fit

    def watched(self, given, **rest):
        seen.append(len(given))
        return fit(self, given, **rest)

    monkeypatch.setattr(Classifier, "fit", watched)
    fitted = Ensemble([member("cutout"), member("cutdiff")]).fit(images)
    assert seen == [17, 17]
    assert len(fitted.normal) == 2


@pytest.mark.parametrize("missing", ["normal", "members"])
def test_a_state_that_is_not_whole_is_refused(ensemble, missing):
    state = ensemble.state()
    del state.settings[missing]
    with pytest.raises(InputError, match="not whole"):
        Ensemble.from_state(state, torch.device("cpu"))


def test_is_no_detector_to_train_a_zoo_of():
    assert Ensemble.name not in detectors.names()
