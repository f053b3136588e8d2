"""Split- and cross-conformal calibration of a finished selection."""

import pytest
import torch

from selector import select_best
from selector.detection import cross_conformal as calibration
from selector.detection.cross_conformal import FOLDS


@pytest.fixture(scope="module")
def run(stripes, scratched, tmp_path_factory):
    out = tmp_path_factory.mktemp("calibration") / "run"
    test = torch.cat([stripes(20, 5), scratched(5)])
    return select_best(stripes(24), test, augmentations={"cutout": [{}]}, preset="tiny", jobs=1, out=out)


@pytest.fixture
def here(monkeypatch):
    """Trained in this process: a worker that imports torch costs more than these trainings."""
    from selector import selection
    from selector.execution.execution import ThisProcess

    monkeypatch.setattr(selection, "engine", lambda jobs, device: ThisProcess())


def test_split_calibration_is_the_held_out_part(run, stripes):
    found = run.calibration()
    assert found.n == 4
    assert not found.is_cross
    images = stripes(6, 9)
    scores = run.detector.score(images)
    expected = [(1 + int((found.folds[0].scores >= s).sum())) / 5 for s in scores]
    assert found.p_values(images, scores).tolist() == expected


def test_cross_calibration_holds_every_image_outside_of_selection_out_once(run, here, stripes):
    found = run.calibration(cross=True)
    kept = run.zoo.store.images
    assert len(found.folds) == FOLDS
    assert found.n == len(kept["train"]) + len(kept["calibration"]) == 20
    images = stripes(6, 9)
    p = found.p_values(images, run.detector.score(images))
    by_hand = torch.ones(6)
    for fold in found.folds:
        by_hand += (fold.scores[:, None] >= fold.detector.score(images)).sum(0)
    assert torch.allclose(p, by_hand.double() / 21)


def test_folds_never_learned_from_what_they_hold_out(run, here, monkeypatch):
    """Scores of a fold's held-out images are those of images its detector was not fitted to."""
    seen = []
    fit = calibration.detectors.Classifier.fit

    def watched(self, images, **rest):
        seen.append({image.numpy().tobytes() for image in images})
        return fit(self, images, **rest)

    monkeypatch.setattr(calibration.detectors.Classifier, "fit", watched)
    import shutil

    shutil.rmtree(run.path / "cross", ignore_errors=True)
    run.calibration(cross=True)
    kept = run.zoo.store.images
    normals = {image.numpy().tobytes() for image in torch.cat([kept["train"], kept["calibration"]])}
    held_out = [normals - learned for learned in seen]
    assert len(held_out) == FOLDS
    assert all(learned < normals for learned in seen)  # and so no validation image among them
    assert sum(map(len, held_out)) == len(normals) == len(set().union(*held_out))


def test_a_group_is_held_out_whole(here, stripes, tmp_path, monkeypatch):
    options = {"augmentations": {"cutout": [{}]}, "preset": "tiny", "jobs": 1, "out": tmp_path / "run"}
    grouped = select_best(stripes(40), groups=[i // 4 for i in range(40)], **options)
    store, seen = grouped.zoo.store, []
    fit = calibration.detectors.Classifier.fit

    def watched(self, images, **rest):
        seen.append({image.numpy().tobytes() for image in images})
        return fit(self, images, **rest)

    monkeypatch.setattr(calibration.detectors.Classifier, "fit", watched)
    found = grouped.calibration(cross=True)
    group_of = {
        image.numpy().tobytes(): group
        for split in ("train", "calibration")
        for image, group in zip(store.images[split], store.groups(split), strict=True)
    }
    assert len(seen) == FOLDS
    assert found.n == len(group_of)
    for learned in seen:
        held_out = group_of.keys() - learned
        assert held_out
        assert not {group_of[image] for image in learned} & {group_of[image] for image in held_out}


def test_too_few_groups_for_folds_are_refused(here, stripes, tmp_path):
    from augmentations import InputError

    options = {"augmentations": {"cutout": [{}]}, "preset": "tiny", "jobs": 1, "out": tmp_path / "run"}
    few = select_best(stripes(40), groups=[i // 8 for i in range(40)], **options)
    assert few.detect(stripes(3, 9)).n_calibration == 8
    with pytest.raises(InputError, match="4 groups of images outside of selection are fewer than its 5 folds"):
        few.detect(stripes(3, 9), cross=True)


def test_folds_are_trained_once(run, here, monkeypatch):
    first = run.calibration(cross=True)
    monkeypatch.setattr(calibration.detectors.Classifier, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = run.calibration(cross=True)
    assert [fold.scores.tolist() for fold in again.folds] == [fold.scores.tolist() for fold in first.folds]


def test_cross_calibration_supports_a_rate_that_split_calibration_refuses(run, here, stripes, scratched):
    from augmentations import InputError

    images = torch.cat([stripes(10, 9), scratched(10, 10)])
    with pytest.raises(InputError, match="--cross"):
        run.detect(images, false_alarm_rate=0.05)
    found = run.detect(images, false_alarm_rate=0.05, cross=True)
    assert found.n_calibration == 20
    assert found.smallest_p_value == pytest.approx(1 / 21)
    assert found.p_values[10:].mean() < found.p_values[:10].mean()
