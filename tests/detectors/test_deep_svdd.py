"""The kind that brings normal images close to a centre."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from augmentations import InputError
from detectors import ENCODERS, deep_svdd, get_preset
from detectors.deep_svdd import (
    DeepSVDD,
    DeepSVDDSettings,
    TrainingCollapsedError,
    off_zero,
    refuse_collapse,
    spread_of,
    without_bias,
)
from selector.testing.detector import KindContract, stripes

SHORT = DeepSVDDSettings("small", 32, steps=3, batch=4, learning_rate=1e-3)


class TestDeepSVDD(KindContract):
    peak_tolerance = 8

    def make(self, *, seed=0, channels=1):
        return DeepSVDD(SHORT, seed=seed, device="cpu")

    def learn(self):
        return DeepSVDD(replace(SHORT, steps=40, batch=8), device="cpu")


class TestDeepSVDDWithScorer(TestDeepSVDD):
    def make(self, *, seed=0, channels=1):
        return DeepSVDD(replace(SHORT, score="scorer"), seed=seed, device="cpu")

    def learn(self):
        return DeepSVDD(replace(SHORT, steps=40, batch=8, score="scorer"), device="cpu")


@pytest.fixture(scope="module")
def fitted():
    return DeepSVDD(replace(SHORT, steps=30, batch=8), device="cpu").fit(stripes())


def test_score_is_the_squared_distance_to_the_centre(fitted):
    images = stripes(4, seed=1)
    with torch.no_grad():
        features = fitted.encoder.body(images)
    centre = fitted.encoder.centre
    expected = [(row - centre).square().sum() for row in features.mean((2, 3))]
    torch.testing.assert_close(fitted.score(images), torch.stack(expected))


def test_training_brings_normal_images_closer(fitted):
    first = DeepSVDD(fitted.settings, device="cpu").random_init(stripes()).fit_scorer(stripes())
    assert torch.equal(first.encoder.centre, fitted.encoder.centre), "the centre stays where it was"
    assert fitted.score(stripes(8, seed=1)).mean() < 0.7 * first.score(stripes(8, seed=1)).mean()
    assert fitted.losses[-5:].mean() < fitted.losses[:5].mean()


@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_no_layer_has_a_bias(encoder):
    network = DeepSVDD(replace(SHORT, encoder=encoder), device="cpu").build_encoder(3)
    assert not [name for name, _ in network.named_parameters() if name.endswith("bias")]
    for layer in network.modules():
        assert not isinstance(layer, nn.BatchNorm2d) or not layer.affine
    nested = without_bias(nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm2d(3)), nn.Conv2d(3, 4, 1)))
    assert [name for name, _ in nested.named_parameters()] == ["0.0.weight", "1.weight"]


def test_the_centre_is_off_zero():
    centre = off_zero(torch.tensor([0.0, 0.05, -0.05, -0.0, 0.4, -0.3]))
    torch.testing.assert_close(centre, torch.tensor([0.1, 0.1, -0.1, 0.1, 0.4, -0.3]))
    assert DeepSVDD(SHORT, device="cpu").random_init(stripes()).encoder.centre.abs().min() >= 0.1


def test_a_collapse_is_reported(monkeypatch):
    def collapse(model, *rest, **arguments):
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        return torch.zeros(3)

    detector = DeepSVDD(SHORT, device="cpu").fit(stripes())
    before = detector.score(stripes(4))
    monkeypatch.setattr(deep_svdd, "optimize", collapse)
    with pytest.raises(TrainingCollapsedError, match=r"the same.*fewer steps than 3"):
        detector.train(stripes())
    assert torch.equal(detector.score(stripes(4)), before), "the detector is as it was"
    refuse_collapse(0.5, 0.1, 3)
    with pytest.raises(TrainingCollapsedError):
        refuse_collapse(0.5, 0.0, 3)


def test_images_that_are_the_same_from_the_start_are_no_collapse():
    refuse_collapse(0.0, 0.0, 3)
    assert spread_of(torch.ones(4, 3)) == 0
    assert spread_of(torch.zeros(4, 3)) == 0
    with pytest.raises(InputError, match="all the same"):
        DeepSVDD(SHORT, device="cpu").fit(stripes(1).repeat(9, 1, 1, 1))


def test_paper_has_the_published_schedule():
    expected = DeepSVDDSettings("resnet18", 256, steps=150 * 25, batch=200, learning_rate=1e-4, weight_decay=5e-7)
    assert DeepSVDD.settings_for(get_preset("paper")) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "resnet81"},
        {"image_size": 0},
        {"steps": 0},
        {"batch": 1},
        {"learning_rate": 0.0},
        {"weight_decay": float("nan")},
        {"score": "oracle"},
        {"reduction": 0},
    ],
    ids=str,
)
def test_refuses_what_cannot_be_trained(change):
    with pytest.raises(InputError, match=next(iter(change))):
        replace(SHORT, **change)
