"""Whether test images resemble validation images as normal images should, and whether there is evidence of anomalies.

Two tests of anomaly scores (images x candidates), without labels and without a model of the scores. Rows are images and
exchangeable where they resemble each other; candidates may depend on each other in any way.

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

That unlabeled images bound the share of what is unlike the nominal ones from below, and only so, is from Blanchard, Lee
& Scott, Semi-supervised novelty detection, JMLR 11, 2010. docs/shift.md has numbers.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import hypergeom, rankdata
from torch import Tensor

from augmentations.randomness import generator

LEVEL = 0.05  # of significance, of both tests
PERMUTATIONS = 999  # so that the smallest p-value is .001
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


def shift_and_anomaly_tests(validation: Tensor, test: Tensor, seed: int) -> ShiftTest:
    """Both tests of the scores of validation images (h,m) and test images (k,m) by m candidates, all finite."""
    return replace(shift_test(validation, test), anomaly_p_value=savage_score_test(validation, test, seed))


def shift_test(validation: Tensor, test: Tensor) -> ShiftTest:
    """The test of a shift alone, of validation scores (h,m) and test scores (k,m)."""
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
