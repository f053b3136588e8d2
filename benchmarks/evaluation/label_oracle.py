"""Where labels can choose: elsewhere candidates differ by no more than chance, and the best of a zoo is the luckiest.

The AUROC of a candidate that finds nothing is .5 but for chance, the best of 16 such candidates is a maximum of noise,
and a regret against it does not measure a choice. A choice by labels on half of the images, evaluated on
the other half, shows this: a data set is *label-resolvable* where that choice has a small regret. Whether one is stands
in a list, LABEL_RESOLVABLE, before a rule is tried on it.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor

from augmentations.randomness import generator

HALVES = 20
FEWEST = 2  # images of a label, so that each half has one
# Of the regret of the mean candidate, up to which labels of half of the images are said to choose. Where scores are
# noise, the share is 1 or more; where candidates differ clearly, it is nearly 0: half-way.
SHARE = 0.5
# What ``labels_choose`` says of the first zoo that was stored of a data set; later zoos and rules do not change it.
LABEL_RESOLVABLE: Mapping[str, bool] = {
    **dict.fromkeys(("elpv-mono", "elpv-poly", "brick"), True),
    **{f"fashion-mnist-{k}": k != 9 for k in range(10)},
    "ihc": False,
    "hubble": True,
    **dict.fromkeys(("grass", "gravel"), False),
}


def half_label_oracle(scores: np.ndarray, labels: Tensor, seed: int, task: str) -> tuple[float, float]:
    """AUROC and regret, on the other half of the images, of the candidate that is best by the labels of a random half.

    Args:
        scores: (k,m) of m candidates.
        labels: (k,), 1 = anomalous.
        seed: of the halves, with the name of the task.
        task: name of the task.

    Returns:
        Means over HALVES halves, each with half of the normal and half of the anomalous images; the regret is against
        the best candidate of that other half. nan where one of the labels has fewer than FEWEST images, or there is no
        candidate.
    """
    by_label = [(labels == label).nonzero()[:, 0] for label in (0, 1)]
    if min(map(len, by_label)) < FEWEST or not scores.shape[1]:
        return np.nan, np.nan
    source = generator(seed, "half labels", task)
    drawn = [rows[torch.rand(HALVES, len(rows), generator=source).argsort(1)] for rows in by_label]
    halves = [[rows[:, : rows.shape[1] // 2] for rows in drawn], [rows[:, rows.shape[1] // 2 :] for rows in drawn]]
    first, other = (_aurocs(scores, *(rows.numpy() for rows in half)) for half in halves)
    chosen = other[np.arange(HALVES), first.argmax(1)]
    return float(chosen.mean()), float((other.max(1) - chosen).mean())


def _aurocs(scores: np.ndarray, normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """AUROC (s,m) of scores (k,m) on s choices of normal (s,n) and anomalous (s,a) rows."""
    n, a = normal.shape[1], anomalous.shape[1]
    ranks = rankdata(scores[np.hstack([normal, anomalous])], axis=1)
    return (ranks[:, n:].sum(1) - a * (a + 1) / 2) / (n * a)


def labels_choose(rows: pd.DataFrame) -> pd.DataFrame:
    """Where a choice by labels of half of the images loses less than SHARE of what the mean candidate loses.

    Both are of all candidates that were trained, whatever guards of the selection strike out.

    Args:
        rows: of a leaderboard, with ``data_set``.

    Returns:
        One row per data set, in the order of ``rows``: the mean regrets ``half_label_oracle`` and ``average`` over its
        cases, and ``label_resolvable``.
    """
    regrets = rows.groupby(["data_set", "criterion"], sort=False).regret.mean().unstack()
    of_both = regrets.reindex(index=rows.data_set.unique(), columns=["half_label_oracle", "average"])
    return of_both.assign(label_resolvable=of_both.half_label_oracle < SHARE * of_both.average)


def label_resolvable(rows: pd.DataFrame) -> pd.DataFrame:
    """The same as LABEL_RESOLVABLE lists it, and as ``labels_choose`` says of data sets that are not listed."""
    table = labels_choose(rows)
    known = [LABEL_RESOLVABLE.get(name, resolvable) for name, resolvable in table.label_resolvable.items()]
    return table.assign(label_resolvable=known)
