"""A choice by labels of half of the images, evaluated on the other half, and where it has any worth."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.evaluation.label_oracle import (
    HALVES,
    LABEL_RESOLVABLE,
    _aurocs,
    half_label_oracle,
    label_resolvable,
    labels_choose,
)

LABELS = torch.tensor([0] * 30 + [1] * 20)


def noise(candidates=16, seed=0):
    return np.random.default_rng(seed).normal(size=(len(LABELS), candidates))


def test_a_candidate_that_finds_everything_is_chosen_at_no_loss():
    scores = noise()
    scores[:, 3] = LABELS
    assert half_label_oracle(scores, LABELS, 0, "task") == (1.0, 0.0)


def test_among_candidates_that_find_nothing_the_choice_is_worth_a_random_pick():
    """Over many zoos of noise: AUROC .5, and as much regret as the mean candidate of the other half has."""
    found = np.array([half_label_oracle(noise(seed=seed), LABELS, seed, "task") for seed in range(60)])
    assert found[:, 0].mean() == pytest.approx(0.5, abs=0.02)
    # Half of the images are 15 normal and 10 anomalous ones.
    source = np.random.default_rng(1000)
    normal, anomalous = (source.normal(size=(200, 16, n)) for n in (15, 10))
    aurocs = (anomalous[..., None] > normal[:, :, None]).mean((2, 3))
    assert found[:, 1].mean() == pytest.approx((aurocs.max(1) - aurocs.mean(1)).mean(), abs=0.03)


def test_the_images_evaluated_on_are_not_those_that_chose():
    """Each of two candidates finds one of two anomalies: the one that is chosen finds none of the other half."""
    scores = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, -1.0], [-1.0, 1.0]])
    assert half_label_oracle(scores, torch.tensor([0, 0, 1, 1]), 0, "task") == (0.0, 1.0)


def test_aurocs_of_many_halves_are_those_of_scikit_learn():
    source = np.random.default_rng(0)
    scores = source.integers(0, 5, (50, 4)).astype(float)  # with ties
    normal, anomalous = (
        np.stack([source.permutation(rows)[:9] for _ in range(3)]) for rows in (range(30), range(30, 50))
    )
    for row, n, a in zip(_aurocs(scores, normal, anomalous), normal, anomalous, strict=True):
        rows = [*n, *a]
        assert row == pytest.approx([roc_auc_score(LABELS[rows], column) for column in scores[rows].T])


def test_halves_are_the_same_again_and_others_for_another_seed_or_task():
    assert HALVES >= 20
    found = half_label_oracle(noise(), LABELS, 0, "task")
    assert found == half_label_oracle(noise(), LABELS, 0, "task")
    assert found not in (half_label_oracle(noise(), LABELS, 1, "task"), half_label_oracle(noise(), LABELS, 0, "other"))


@pytest.mark.parametrize(("labels", "candidates"), [([0] * 9 + [1], 2), ([0] * 5 + [1] * 5, 0)])
def test_without_two_images_of_a_label_or_a_candidate_there_is_no_value(labels, candidates):
    assert np.isnan(half_label_oracle(np.zeros((10, candidates)), torch.tensor(labels), 0, "task")).all()


def test_label_resolvable_is_where_labels_lose_less_than_half_of_the_mean_candidate():
    rows = pd.DataFrame(
        [
            (name, criterion, regret)
            for name, half, average in (
                ("z", 0.04, 0.1),
                ("noise", 0.12, 0.1),
                ("even", 0.05, 0.1),
                ("unknown", np.nan, 0.1),
            )
            for criterion, mean in (("half_label_oracle", half), ("average", average), ("default", 0.0))
            for regret in (mean - 0.01, mean + 0.01)
        ],
        columns=["data_set", "criterion", "regret"],
    )
    found = labels_choose(rows)
    assert found.label_resolvable.to_dict() == {"z": True, "noise": False, "even": False, "unknown": False}
    assert list(found.index) == ["z", "noise", "even", "unknown"]
    assert found.half_label_oracle["noise"] == pytest.approx(0.12)
    assert not labels_choose(rows[rows.criterion != "half_label_oracle"]).label_resolvable.any()


def test_what_is_listed_stays_as_it_is_whatever_a_later_zoo_says():
    assert (LABEL_RESOLVABLE["brick"], LABEL_RESOLVABLE["gravel"]) == (True, False)
    of_half = {"brick": 0.2, "gravel": 0.0, "other": 0.0}
    cases = [(name, "half_label_oracle", regret) for name, regret in of_half.items()]
    cases += [(name, "average", 0.1) for name in of_half]
    rows = pd.DataFrame(cases, columns=["data_set", "criterion", "regret"])
    assert labels_choose(rows).label_resolvable.to_dict() == {"brick": False, "gravel": True, "other": True}
    assert label_resolvable(rows).label_resolvable.to_dict() == {"brick": True, "gravel": False, "other": True}
