"""Decisions with a stated false-alarm rate: conformal p-values from held-out normal images."""

import math
from collections.abc import Sequence

import torch
from scipy.stats import false_discovery_control
from torch import Tensor

from augmentations import InputError

DEFAULT_FALSE_ALARM_RATE = 0.05
ROUNDING = 1e-12  # of a product of two numbers that should equal a third


def p_values(calibration: Tensor, scores: Tensor) -> Tensor:
    """The split-conformal p-value of each score.

    It is (1 + number of calibration scores at or above) / (h + 1): for a normal image exchangeable with the calibration
    images, P(p <= a) <= a for every a (Vovk et al., 2005; Bates et al., 2023).

    Args:
        calibration: Scores (h,) of held-out normal images.
        scores: Scores (k,) of the images to decide on, by the same detector.

    Returns:
        p-values (k,), float64.

    Example:
        >>> p_values(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.5, 4.0])).tolist()
        [1.0, 0.5, 0.25]
    """
    return cross_p_values([(calibration, scores)])


def cross_p_values(folds: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The cross-conformal p-value of each image; with one fold, the split-conformal one.

    It is (1 + number of calibration scores at or above the image's score by the same detector) / (n + 1), where n
    counts the calibration images of all folds (Vovk, "Cross-conformal predictors", 2015).

    Args:
        folds: For each fold the scores (h,) of its held-out images and the scores (k,) of the images to decide on, both
            by the detector that did not learn from the held-out images.

    Returns:
        p-values (k,), float64.
    """
    n = sum(len(calibration) for calibration, _ in folds)
    above = torch.zeros(len(folds[0][1]), dtype=torch.float64)
    for calibration, scores in folds:
        ordered = calibration.sort().values
        below = torch.searchsorted(ordered, scores.to(ordered.dtype).contiguous(), side="left")
        above += len(ordered) - below
    return (1 + above) / (n + 1)


def min_false_alarm_rate(n_calibration: int) -> float:
    """The smallest false-alarm rate that a number of calibration images supports: 1 / (h + 1)."""
    return 1 / (n_calibration + 1)


def validate_rate(rate: float | None, n_calibration: int) -> float:
    """The false-alarm rate to decide at.

    Args:
        rate: The rate that the user chose; None: .05, or the smallest supported one where that is higher.
        n_calibration: How many calibration images there are.

    Returns:
        The rate, in (0, 1).

    Raises:
        InputError: The rate is outside (0, 1), or lower than the calibration images support.
    """
    smallest = min_false_alarm_rate(n_calibration)
    if rate is None:
        return max(DEFAULT_FALSE_ALARM_RATE, smallest)
    if not (math.isfinite(rate) and 0 < rate < 1):
        raise InputError(f"false_alarm_rate={rate}", "must be between 0 and 1", "try 0.05")
    if rate < smallest:
        raise InputError(
            f"false_alarm_rate={rate}",
            f"{n_calibration} calibration images support rates from {smallest:.3g} upwards",
            f"use {math.ceil(smallest * 1000) / 1000} or more, hold out every normal image in turn "
            "(cross=True, --cross), or select with more normal images",
        )
    return rate


def benjamini_hochberg(p: Tensor, rate: float) -> Tensor:
    """Which images to call anomalous so that the expected share of normal ones among them is ``rate`` at most.

    Holds for the conformal p-values of one calibration set, which depend on each other positively (Benjamini and
    Hochberg, 1995; Bates et al., "Testing for Outliers with Conformal p-values", 2023).

    Args:
        p: p-values (k,).
        rate: The false discovery rate, in (0, 1).

    Returns:
        Bools (k,).

    Raises:
        InputError: The rate is outside (0, 1).
    """
    if not (math.isfinite(rate) and 0 < rate < 1):
        raise InputError(f"fdr={rate}", "must be between 0 and 1", "try 0.1")
    adjusted = false_discovery_control(p.double().numpy(), method="bh")
    return torch.from_numpy(adjusted <= rate * (1 + ROUNDING))
