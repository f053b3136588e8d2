"""Whether test images resemble validation images as normal images should, and whether there is evidence of anomalies.

Two tests of anomaly scores (images x candidates), without labels and without a model of the scores. Rows are images and
exchangeable where they resemble each other; candidates may depend on each other in any way, but which ones there are
must not depend on their scores, or only in a way in which validation and test images may be exchanged.

*A shift.* Null hypothesis: at least half of the test images are normal and exchangeable with the validation images; the
others may score anything. With h validation and k test scores, n = ceil(k/2) and r = ceil(h/2), the number of test
scores up to the r-th lowest validation score is then at least that of n normal images, a count X with P(X <= x) =
P(r or more of the r + x lowest of h + n scores are validation scores), which is hypergeometric (the precedence test;
Nelson, Technometrics 5, 1963). From above the same holds, so that a shift to either side is found. Bonferroni over
candidates and sides: a shift misleads a choice most where candidates see it differently, so one that sees it is enough.
The size is at most the level, whatever the anomalies score, and far below it where they are few; the power is what that
leaves. Anomalies that score high hide a shift towards more normal scores.

*Evidence of anomalies.* Null hypothesis: all test images are exchangeable with the validation images. The statistic is
the largest of the candidates' sums of Savage scores over the test images (-log of the share of scores above, so that
few high ones count; Savage, Ann. Math. Stat. 27, 1956). Its distribution is that over permutations of the images, the
same for all candidates (Westfall & Young, Resampling-based multiple testing, 1993), so the size is exact. The power is
bounded by what ranks can show: a images above all others are all test images by chance in about (k / (h + k))^a.

*Groups.* Where validation images come in groups, only groups are exchangeable, and all test images may be one group
more. Then each test compares one statistic of the test images with the same of each of G validation groups, p = (1 +
number at or above) / (G + 1), so that G must be 19 for evidence of anomalies and 39 for a shift (to either side). For a
shift it is the highest of the candidates' ranks of the median score, of test images the lower quartile, which is at
most the median of the normal ones; for anomalies, the highest of the candidates' mean Savage scores.

That unlabeled images bound the share of what is unlike the nominal ones from below, and only so, is from Blanchard, Lee
& Scott, Semi-supervised novelty detection, JMLR 11, 2010. docs/shift.md has numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import hypergeom, rankdata
from torch import Tensor

from augmentations.randomness import generator

LEVEL = 0.05  # of significance, of both tests
PERMUTATIONS = 999  # so that the smallest p-value is .001
FEWEST_GROUPS = 19  # of validation images, with which a p-value reaches the level
BATCH = 111  # of them at a time, in one product
# Sums of multiples of it are exact in float64, so that no order of images or candidates changes a comparison of them.
GRAIN = 2.0**-20


@dataclass(frozen=True)
class ShiftTest:
    """Test scores against validation scores, of all candidates; p-values are nan where ``reason`` says why.

    Args:
        shift_p_value: of "at least half of the test images resemble validation images".
        share: of the candidate that contradicts it most, the share of test scores on the emptier side of the median
            validation score, at least about 1/4 under that hypothesis.
        is_higher: whether test scores are the higher ones.
        n_shifted: how many of the candidates contradict it.
        n_candidates: how many were tested.
        anomaly_p_value: of "all test images resemble validation images" against higher scores.
        reason: why nothing was tested.
    """

    shift_p_value: float = math.nan
    share: float = math.nan
    is_higher: bool = False
    n_shifted: int = 0
    n_candidates: int = 0
    anomaly_p_value: float = math.nan
    reason: str = ""

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "ShiftTest":
        """The test as it was saved, numbers that are not finite as None."""
        values: dict[str, Any] = {name: math.nan if value is None else value for name, value in saved.items()}
        return cls(**values)

    @property
    def is_shifted(self) -> bool:
        """Whether the test images do not resemble the validation images."""
        return self.shift_p_value <= LEVEL

    @property
    def no_evidence_of_anomalies(self) -> bool:
        """Whether no candidate scores test images higher than validation images by more than chance."""
        return self.anomaly_p_value > LEVEL


NOT_COMPARED = ShiftTest(reason="nothing was compared")


def shift_and_anomaly_tests(
    validation: Tensor, test: Tensor, seed: int, groups: Sequence[int] | None = None
) -> ShiftTest:
    """Both tests of the scores of validation images (h,m), with their groups, and test images (k,m) by m candidates,
    all finite."""
    if groups is None:
        anomaly_p_value = savage_score_test(validation, test, seed)
    else:
        anomaly_p_value = grouped_savage_test(validation, test, groups)
    return replace(shift_test(validation, test, groups), anomaly_p_value=anomaly_p_value)


def shift_test(validation: Tensor, test: Tensor, groups: Sequence[int] | None = None) -> ShiftTest:
    """The test of a shift alone, of validation scores (h,m), with their groups, and test scores (k,m)."""
    if groups is not None:
        return _grouped_shift_test(validation.double(), test.double(), groups)
    higher, lower = (precedence_test(sign * validation.double(), sign * test.double()) for sign in (1, -1))
    # Of equal p-values the first is taken, and "higher" comes first whatever the order of the candidates.
    p_values, shares = (np.concatenate(both) for both in zip(higher, lower, strict=True))
    adjusted = np.minimum(len(p_values) * p_values, 1.0)
    least, m = int(p_values.argmin()), validation.shape[1]
    return ShiftTest(
        shift_p_value=float(adjusted[least]),
        share=float(shares[least]),
        is_higher=least < m,
        n_shifted=int((adjusted <= LEVEL).reshape(2, m).any(0).sum()),
        n_candidates=m,
    )


def precedence_test(validation: Tensor, test: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The precedence test of a shift to higher scores, by candidate.

    Exact without ties, conservative with them. Source: Nelson, Technometrics 5, 1963.

    Args:
        validation: (h,m) scores.
        test: (k,m) scores.

    Returns:
        (m,) the p-value of as few test scores up to the median validation score, and (m,) their share.
    """
    h, k = len(validation), len(test)
    n, r = -(-k // 2), -(-h // 2)
    below = (test <= validation.sort(0).values[r - 1]).sum(0).numpy()
    return hypergeom.sf(r - 1, h + n, h, r + np.minimum(below, n)), below / k


def savage_score_test(validation: Tensor, test: Tensor, seed: int) -> float:
    """The permutation test of high test scores, by the largest of the candidates' sums of Savage scores.

    Source: Savage, Ann. Math. Stat. 27, 1956; Westfall & Young, 1993.

    Args:
        validation: (h,m) scores.
        test: (k,m) scores.
        seed: of the permutations.

    Returns:
        The p-value, at least .001, of test scores as high as these by chance.
    """
    ranks = rankdata(torch.cat([validation, test]).double().numpy(), axis=0)
    h, n = len(validation), len(ranks)
    savage = -np.log1p(-ranks / (n + 1))
    scores = torch.from_numpy(np.round((savage - savage.mean(0)) / GRAIN))
    observed = (-scores[:h].sum(0)).max()  # what validation images lack, test images have
    # Rows in an order of their own, so that that of the images does not matter.
    pool = scores[torch.from_numpy(np.lexsort(np.sort(ranks, axis=1).T))]
    source, reached = generator(seed, "standing out"), 0
    for _ in range(PERMUTATIONS // BATCH):
        drawn = torch.stack([torch.randperm(n, generator=source)[:h] for _ in range(BATCH)])
        is_drawn = torch.zeros(BATCH, n, dtype=pool.dtype).scatter_(1, drawn, 1.0)
        reached += int(((-is_drawn @ pool).max(1).values >= observed).sum())
    return (1 + reached) / (1 + PERMUTATIONS)


def grouped_savage_test(validation: Tensor, test: Tensor, groups: Sequence[int]) -> float:
    """The p-value of test scores as high as these, where the test images may be one group more.

    Args:
        validation: (h,m) scores.
        test: (k,m) scores.
        groups: (h,) of the validation images.

    Returns:
        The p-value, at least 1 / (G + 1).
    """
    ranks = rankdata(torch.cat([validation, test]).double().numpy(), axis=0)
    savage = torch.from_numpy(np.round(-np.log1p(-ranks / (len(ranks) + 1)) / GRAIN))
    means = [part.mean(0) for part in (*_by_group(savage[: len(validation)], groups), savage[len(validation) :])]
    return _rank_p_value(torch.stack(means).max(1).values)


def _grouped_shift_test(validation: Tensor, test: Tensor, groups: Sequence[int]) -> ShiftTest:
    middle = torch.stack([_lower_quantile(part, 2) for part in _by_group(validation, groups)])
    p_values, own, shares = [], [], []
    for sign in (1, -1):
        # At most half of the test images are not normal, so the lowest quarter is not above the normal ones' median.
        statistic = torch.cat([sign * middle, _lower_quantile(sign * test, 4)[None]])
        ranks = torch.from_numpy(rankdata(statistic.numpy(), axis=0))
        p_values.append(_rank_p_value(ranks.max(1).values))
        own.append(torch.tensor([_rank_p_value(column) for column in ranks.T]))
        shares.append((sign * test <= (sign * middle).median(0).values).double().mean(0))
    side = int(p_values[1] < p_values[0])
    return ShiftTest(
        shift_p_value=min(2 * p_values[side], 1.0),
        share=float(shares[side].min()),
        is_higher=side == 0,
        n_shifted=int((2 * torch.stack(own).min(0).values <= LEVEL).sum()),
        n_candidates=validation.shape[1],
    )


def _by_group(rows: Tensor, groups: Sequence[int]) -> list[Tensor]:
    numbers = torch.tensor(groups)
    return [rows[numbers == group] for group in numbers.unique()]


def _lower_quantile(rows: Tensor, parts: int) -> Tensor:
    """Of each column the lower median (2 parts), or the lower quartile: the lower median of the lower half (4)."""
    n = len(rows)
    for _ in range(parts // 2):
        n = -(-n // 2)
    return rows.sort(0).values[n - 1]


def _rank_p_value(statistics: Tensor) -> float:
    """Of the last among exchangeable statistics: the share that is as high."""
    return float((statistics >= statistics[-1]).double().mean())
