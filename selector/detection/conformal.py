"""Decisions with a stated false-alarm rate: conformal p-values from held-out normal images."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from augmentations import InputError

USUAL_RATE = 0.05
ROUNDING = 1e-12  # of a product of two numbers that should equal a third


def p_values(calibration: Tensor, scores: Tensor) -> Tensor:
    """The split-conformal p-value of each of ``scores`` (k,), from the ``calibration`` scores (h,), as float64 (k,).

    (1 + number of calibration scores at or above) / (h + 1): for a normal image exchangeable with the calibration
    images, P(p <= a) <= a for every a (Vovk et al., 2005; Bates et al., 2023).
    """
    return cross_p_values([(calibration, scores)])


def cross_p_values(folds: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The cross-conformal p-value of k images, float64 (k,).

    Each fold is the calibration scores (h,) of its held-out images and the scores (k,), both from the detector that
    never saw them: (1 + number of calibration scores at or above the score by the same detector) / (n + 1), where n
    counts all calibration images (Vovk, "Cross-conformal predictors", 2015). One fold is split-conformal.
    """
    n = sum(len(calibration) for calibration, _ in folds)
    above = torch.zeros(len(folds[0][1]), dtype=torch.float64)
    for calibration, scores in folds:
        ordered = calibration.sort().values
        below = torch.searchsorted(ordered, scores.to(ordered.dtype).contiguous(), side="left")
        above += len(ordered) - below
    return (1 + above) / (n + 1)


def smallest_rate(n_calibration: int) -> float:
    """The smallest false-alarm rate that so many calibration images support: 1 / (h + 1)."""
    return 1 / (n_calibration + 1)


def false_alarm_rate(wanted: float | None, n_calibration: int) -> float:
    """The rate to decide at; None: the smallest supported one, not below .05.

    Raises InputError for a rate outside (0, 1) or below what the calibration images support.
    """
    smallest = smallest_rate(n_calibration)
    if wanted is None:
        return max(USUAL_RATE, smallest)
    if not (math.isfinite(wanted) and 0 < wanted < 1):
        raise InputError(f"false_alarm_rate={wanted}", "must be between 0 and 1", "try 0.05")
    if wanted < smallest:
        raise InputError(
            f"false_alarm_rate={wanted}",
            f"{n_calibration} calibration images support {smallest:.3g} at the least",
            f"ask for {math.ceil(smallest * 1000) / 1000} or more, hold out every normal image in turn "
            "(cross=True, --cross), or select with more of them",
        )
    return wanted


def benjamini_hochberg(p: Tensor, rate: float) -> Tensor:
    """Which of the p-values (k,) to reject so that the expected share of false ones among them is ``rate`` at most.

    Holds for the conformal p-values of one calibration set, which depend on each other positively (Benjamini and
    Hochberg, 1995; Bates et al., "Testing for Outliers with Conformal p-values", 2023). Returns bools (k,).

    Raises InputError for a rate outside (0, 1).
    """
    if not (math.isfinite(rate) and 0 < rate < 1):
        raise InputError(f"fdr={rate}", "must be between 0 and 1", "try 0.1")
    ordered = p.sort().values
    limits = rate * torch.arange(1, len(p) + 1, dtype=ordered.dtype) / len(p)
    passed = (ordered <= limits * (1 + ROUNDING)).nonzero()
    return p <= ordered[passed[-1]] if len(passed) else torch.zeros(len(p), dtype=torch.bool)
