"""Split- and cross-conformal calibration of a finished selection."""

import json
import math
import shutil

import pytest
import torch

from augmentations import InputError
from detectors import Classifier
from selector import load, outcome, select_best
from selector.detection.conformal import p_values
from selector.detection.cross_conformal import FOLDS
from selector.detection.regions import map_threshold
from selector.execution import Serial, resolve_engine


@pytest.fixture(scope="module")
def run(stripes, scratched, tmp_path_factory):
    out = tmp_path_factory.mktemp("calibration") / "run"
    test = torch.cat([stripes(20, 5), scratched(5)])
    return select_best(stripes(24), test, augmentations={"cutout": [{}]}, preset="tiny", jobs=1, out=out)


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Trained in this process: a worker that imports torch costs more than these trainings."""
    monkeypatch.setattr(outcome, "resolve_engine", lambda *_: Serial())


@pytest.fixture
def fitted_to(monkeypatch):
    """The images that every detector is fitted to, as bytes."""
    sets = []
    fit = Classifier.fit

    def watched(self, images, **rest):
        sets.append({image.numpy().tobytes() for image in images})
        return fit(self, images, **rest)

    monkeypatch.setattr(Classifier, "fit", watched)
    return sets


def test_split_calibration_is_the_held_out_part(run, stripes):
    found = run.calibration()
    assert found.n == 4
    assert not found.is_cross
    images = stripes(6, 9)
    scores = run.detector.score(images)
    expected = [(1 + int((found.folds[0].scores >= s).sum())) / 5 for s in scores]
    assert found.p_values(images, scores).tolist() == expected


def test_cross_calibration_holds_every_image_outside_of_selection_out_once(run, stripes):
    found = run.calibration(cross=True)
    stored = run.zoo.store.images
    assert len(found.folds) == FOLDS
    assert found.n == len(stored["train"]) + len(stored["calibration"]) == 20
    images = stripes(6, 9)
    p = found.p_values(images, run.detector.score(images))
    by_hand = torch.full((6,), float(FOLDS))
    for fold in found.folds:
        by_hand += (fold.scores[:, None] >= fold.detector.score(images)).sum(0)
    assert torch.allclose(p, by_hand.double() / (20 + FOLDS))


def test_folds_are_trained_where_candidates_were(stripes, tmp_path, monkeypatch):
    monkeypatch.setattr(outcome, "resolve_engine", resolve_engine)
    ran = []

    class Counted(Serial):
        def run(self, function, items):
            ran.append((function.__name__, len(items)))
            return super().run(function, items)

    options = {"augmentations": {"cutout": [{}]}, "preset": "tiny", "engine": Counted(), "out": tmp_path / "run"}
    selection = select_best(stripes(24), **options)
    selection.calibration(cross=True)
    assert ran == [("train_candidates", 1), ("fit_fold", FOLDS)]
    (tmp_path / "run" / "cross").rename(tmp_path / "away")
    load(tmp_path / "run", engine=Counted()).calibration(cross=True)
    assert ran[2:] == [("fit_fold", FOLDS)]
    with pytest.raises(InputError, match="engine"):
        load(tmp_path / "run", engine="tcp://host")


def test_folds_never_learned_from_what_they_hold_out(run, fitted_to):
    """Scores of a fold's held-out images are those of images its detector was not fitted to."""
    shutil.rmtree(run.path / "cross", ignore_errors=True)
    run.calibration(cross=True)
    images = run.zoo.store.images
    normals = {image.numpy().tobytes() for image in torch.cat([images["train"], images["calibration"]])}
    held_out = [normals - learned for learned in fitted_to]
    assert len(held_out) == FOLDS
    assert all(learned < normals for learned in fitted_to)  # and so no validation image among them
    assert sum(map(len, held_out)) == len(normals) == len(set().union(*held_out))


def test_a_group_is_held_out_whole(stripes, tmp_path, fitted_to):
    options = {"augmentations": {"cutout": [{}]}, "preset": "tiny", "jobs": 1, "out": tmp_path / "run"}
    grouped = select_best(stripes(40), groups=[i // 4 for i in range(40)], **options)
    store = grouped.zoo.store
    fitted_to.clear()
    found = grouped.calibration(cross=True)
    group_of = {
        image.numpy().tobytes(): group
        for split in ("train", "calibration")
        for image, group in zip(store.images[split], store.groups(split), strict=True)
    }
    assert len(fitted_to) == FOLDS
    assert found.n == len(group_of)
    for learned in fitted_to:
        held_out = group_of.keys() - learned
        assert held_out
        assert not {group_of[image] for image in learned} & {group_of[image] for image in held_out}


def test_too_few_groups_for_folds_are_refused(stripes, tmp_path):
    options = {"augmentations": {"cutout": [{}]}, "preset": "tiny", "jobs": 1, "out": tmp_path / "run"}
    few = select_best(stripes(40), groups=[i // 8 for i in range(40)], **options)
    assert few.detect(stripes(3, 9)).n_calibration == 8
    with pytest.raises(InputError, match="4 groups of images outside of selection are fewer than its 5 folds"):
        few.detect(stripes(3, 9), cross=True)


def test_folds_are_trained_once(run, monkeypatch):
    first = run.calibration(cross=True)
    monkeypatch.setattr(Classifier, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = run.calibration(cross=True)
    assert [fold.scores.tolist() for fold in again.folds] == [fold.scores.tolist() for fold in first.folds]


def test_cross_calibration_supports_a_rate_that_split_calibration_refuses(stripes, tmp_path):
    options = {"augmentations": {"cutout": [{}]}, "preset": "tiny", "jobs": 1, "out": tmp_path / "run"}
    run = select_best(stripes(40), **options)
    images = stripes(10, 9)
    with pytest.raises(InputError, match=r"6 calibration images support.*needs 7; .*--cross"):
        run.detect(images, false_alarm_rate=0.13)
    with pytest.raises(InputError, match=r"needs 19; (?!.*--cross)"):
        run.detect(images, false_alarm_rate=0.05)
    found = run.detect(images, false_alarm_rate=0.13, cross=True)
    assert (found.n_calibration, found.n_folds, found.n_groups) == (34, FOLDS, None)
    assert found.smallest_p_value == pytest.approx(FOLDS / (34 + FOLDS))
    assert math.isfinite(found.map_threshold)


def test_the_map_threshold_comes_from_the_detector_that_makes_the_maps(run):
    split, cross = run.calibration(), run.calibration(cross=True)
    assert torch.equal(split.map_maxima, run.detector.score_map(run.zoo.store.images["calibration"]).amax((1, 2)))
    for rate in (0.1, 0.2, 0.5):
        assert cross.map_threshold(rate) == split.map_threshold(rate)
    assert cross.map_rate(0.1) == 1 / 5


def test_groups_count_once_whatever_is_calibrated(stripes, tmp_path):
    options = {"augmentations": {"cutout": [{}]}, "preset": "tiny", "jobs": 1, "out": tmp_path / "run"}
    run = select_best(stripes(60), stripes(20, 5), groups=[i // 4 for i in range(60)], **options)
    groups = run.zoo.store.groups("calibration")
    n_groups = len(set(groups))
    found = run.detect(stripes(6, 9))
    assert (found.n_calibration, found.n_groups) == (len(groups), n_groups)
    assert found.smallest_p_value == found.false_alarm_rate == 1 / (n_groups + 1)
    stored = run.zoo.calibration([member.id for member in run.members])
    assert torch.equal(found.p_values, p_values(stored["scores"], found.scores, groups))
    assert found.map_threshold == map_threshold(stored["map_maxima"], found.false_alarm_rate, groups)
    with pytest.raises(InputError, match=rf"{n_groups} calibration groups support rates from .* needs 19"):
        run.detect(stripes(6, 9), false_alarm_rate=0.05)
    cross = run.calibration(cross=True)
    assert cross.n_groups == len({*groups, *run.zoo.store.groups("train")})
    assert cross.smallest_rate == FOLDS / (cross.n_groups + FOLDS)
    assert "groups" in cross.describe()
    page, twin = run.report(tmp_path / "report").read_text(), json.loads((tmp_path / "report/report.json").read_text())
    assert twin["decision"]["n_groups"] == n_groups
    assert twin["decision"]["false_alarm_rate"] == found.false_alarm_rate
    assert twin["decision"]["false_alarm_rate_interval"] is None
    assert f"of {n_groups} groups" in page
    assert "Each group counts once" in page
    assert not run.cross_fit_p_values  # no other candidate
    assert twin["decision"]["test"][0]["p_value"] == run.test_p_values[0].item()
