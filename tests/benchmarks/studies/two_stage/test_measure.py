"""One training of the comparison: its scorers share it, and each scores as its detector would."""

from dataclasses import replace

import pytest
import torch

from benchmarks.evaluation.metrics import auroc
from benchmarks.studies.two_stage import measure
from benchmarks.suites.two_stage import ON_CPU, SCORERS, Compared
from benchmarks.tasks.contamination import SemiSupervised
from benchmarks.tasks.task import Task
from detectors import get_preset

PRESET = replace(get_preset("quick"), image_size=32, steps=2, batch=4)


def quick(name):
    """The row of that name, trained for two steps."""
    row = ON_CPU[name]
    return replace(row, settings={**row.settings, "steps": 2}) if "steps" in row.settings else row


@pytest.fixture(scope="module")
def split(stripes, scratched):
    test = torch.cat([stripes(10, seed=5), scratched(8)])
    labels = torch.tensor([0] * 10 + [1] * 8, dtype=torch.uint8)
    return SemiSupervised(Task("made", stripes(30), test, labels), stripes(6, seed=9))


@pytest.mark.parametrize("name", list(ON_CPU))
def test_every_kind_has_a_row_per_protocol_and_scorer(name, split):
    kind = quick(name)
    rows = list(measure.rows(kind, PRESET, split, 0, "cpu"))
    scorers = [*SCORERS, *([measure.OWN] if kind.own_score else [])]
    assert [(r["protocol"], r["scorer"]) for r in rows] == [
        (protocol, scorer) for protocol in (measure.ONE_CLASS, measure.SEMI_SUPERVISED) for scorer in scorers
    ]
    for row in rows:
        assert list(row)[: len(measure.COLUMNS)] == list(measure.COLUMNS)
        assert 0 <= row["auroc"] <= 1
        assert row["reason"] == ""
        assert row["uniformity"] < 0


@pytest.mark.parametrize("name", ["rotation, MLP head", "untrained", "pixels"])
def test_a_scorer_scores_as_its_detector_trained_alone(name, split):
    kind = quick(name)
    rows = {r["scorer"]: r for r in measure.rows(kind, PRESET, split, 0, "cpu") if r["protocol"] == measure.ONE_CLASS}
    score = "scorer" if kind.own_score else ""
    detector = measure.make(kind, PRESET, 0, "cpu", score, "kde").fit(split.task.train)
    assert rows["kde"]["auroc"] == auroc(detector.score(split.task.test).numpy(), split.task.labels.numpy())


def test_where_there_are_masks_pixels_are_evaluated(split):
    masks = torch.zeros(18, 32, 32, dtype=torch.uint8)
    masks[10:, 10:18, 12:20] = 1
    masked = SemiSupervised(replace(split.task, masks=masks), split.inliers[:0])
    rows = list(measure.rows(ON_CPU["pixels"], PRESET, masked, 0, "cpu"))
    assert len(rows) == len(SCORERS)  # without labeled images there is one protocol
    by_scorer = {row["scorer"]: row for row in rows}
    assert by_scorer["gaussian"]["pixel_auroc"] > 0.9
    assert 0 <= by_scorer["gaussian"]["aupro"] <= 1


def test_a_failed_training_is_a_row_that_says_why(split):
    hopeless = Compared("contrastive", {"steps": 3, "learning_rate": 1e30})
    (row,) = measure.rows(hopeless, PRESET, split, 0, "cpu")
    assert row["auroc"] is None
    assert "learning_rate" in row["reason"]
