"""Where labels can decide: elsewhere candidates differ by no more than chance, and the best of a zoo is the luckiest.

The AUROC of a candidate that finds nothing is .5 give or take what the images happen to be, the best of 16 such is the
maximum of noise, and a regret against it says nothing of a choice. What shows it is a choice by the labels themselves,
on half of the images, judged on the other half: where there is something to choose, it is right.
"""

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor

from augmentations.randomness import generator

HALVES = 20
FEWEST = 2  # images of a label, so that each half has one
# Of a random pick's regret, from which labels of half of the images don't decide. Of noise alone they lose as much as a
# random pick or more (the share is 1 or above), of a zoo whose candidates differ next to nothing (0): half-way.
SHARE = 0.5


def half_labels(scores: np.ndarray, labels: Tensor, seed: int, task: str) -> tuple[float, float]:
    """AUROC and regret, on the other half of the images, of the candidate that is best by the labels of a random half.

    scores (k,m) of m candidates, labels (k,) 0 or 1. Both are means over HALVES halves, each with half of the normal
    and half of the anomalous images; the regret is against the best candidate of that other half. nan where one of the
    labels has fewer than FEWEST images, or there is no candidate.
    """
    by_label = [(labels == label).nonzero()[:, 0] for label in (0, 1)]
    if min(map(len, by_label)) < FEWEST or not scores.shape[1]:
        return np.nan, np.nan
    source = generator(seed, "half labels", task)
    drawn = [rows[torch.rand(HALVES, len(rows), generator=source).argsort(1)] for rows in by_label]
    halves = [[rows[:, : rows.shape[1] // 2] for rows in drawn], [rows[:, rows.shape[1] // 2 :] for rows in drawn]]
    seen, others = (_aurocs(scores, *(rows.numpy() for rows in half)) for half in halves)
    chosen = others[np.arange(HALVES), seen.argmax(1)]
    return float(chosen.mean()), float((others.max(1) - chosen).mean())


def _aurocs(scores: np.ndarray, normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """AUROC (s,m) of scores (k,m) on s choices of normal (s,n) and anomalous (s,a) rows."""
    n, a = normal.shape[1], anomalous.shape[1]
    ranks = rankdata(scores[np.hstack([normal, anomalous])], axis=1)
    return (ranks[:, n:].sum(1) - a * (a + 1) / 2) / (n * a)


def decidable(rows: pd.DataFrame) -> pd.DataFrame:
    """Where labels of half of the images lose less than SHARE of what a random pick does: by data set, in the order of
    the rows, the mean regrets ``half_labels`` and ``random`` over its cases, and ``decidable``.

    rows: of a leaderboard, with ``data_set``.
    """
    regrets = rows.groupby(["data_set", "criterion"], sort=False).regret.mean().unstack()
    found = regrets.reindex(index=rows.data_set.unique(), columns=["half_labels", "random"])
    return found.assign(decidable=found.half_labels < SHARE * found.random)
