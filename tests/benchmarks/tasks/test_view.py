"""Trials: the requested ratio, every normal image kept while anomalies suffice, the same again from a seed."""

import pytest
import torch

from benchmarks.tasks.view import TRIALS, View

RATIOS = (0.05, 0.2, 0.5)


def view(normal, anomalous):
    labels = torch.tensor([0] * normal + [1] * anomalous)[torch.randperm(normal + anomalous)]
    return View("task", "group", "", 100 + torch.arange(len(labels)), labels)


def shares(one, seed=0):
    for ratio, number, rows in one.trials(RATIOS, seed):
        yield ratio, number, rows, one.labels[rows - 100]


@pytest.mark.parametrize(("normal", "anomalous"), [(60, 60), (51, 204), (100, 7), (300, 100)])
def test_the_share_of_anomalies_is_the_ratio(normal, anomalous):
    one = view(normal, anomalous)
    seen = list(shares(one))
    assert [(ratio, number) for ratio, number, _, _ in seen] == [(r, n) for r in RATIOS for n in range(TRIALS)]
    for ratio, _, rows, labels in seen:
        assert len(rows.unique()) == len(rows)
        # One image more or less is the rounding.
        assert abs(labels.sum() - ratio * len(labels)) <= 0.5
        enough = anomalous >= ratio / (1 - ratio) * normal
        assert ((labels == 0).sum() == normal) == enough


def test_trials_redraw_the_anomalies_and_follow_the_seed():
    one = view(60, 60)
    few = [set(rows.tolist()) for ratio, _, rows, _ in shares(one) if ratio == 0.05]
    assert len(set(map(frozenset, few))) == TRIALS
    assert [rows.tolist() for *_, rows, _ in shares(one)] == [rows.tolist() for *_, rows, _ in shares(one)]
    assert [rows.tolist() for *_, rows, _ in shares(one)] != [rows.tolist() for *_, rows, _ in shares(one, seed=1)]


def test_there_is_always_something_to_find():
    assert all(labels.sum() >= 1 for *_, labels in shares(view(5, 5)))


def test_a_table_gives_the_view_back():
    one = view(4, 3)
    again = View.of(one.table())
    assert torch.equal(again.rows, one.rows)
    assert torch.equal(again.labels, one.labels)
    assert (again.task, again.group, again.kind) == (one.task, one.group, one.kind)
