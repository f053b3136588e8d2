"""Decisions with a stated false-alarm rate: conformal p-values from held-out normal images."""

import itertools
import math
from collections.abc import Sequence

import torch
from scipy.stats import false_discovery_control
from torch import Tensor

from augmentations import InputError

DEFAULT_FALSE_ALARM_RATE = 0.05
ROUNDING = 1e-12  # of a product of two numbers that should equal a third
# Of scores, by the largest calibration score: which images are beside it in a batch changes an image's by some 3e-6.
SCORE_ROUNDING = 1e-5
ROUNDED_RANGE = 1e-3  # of the range of calibration scores, that at most is taken for rounding
Groups = Sequence[int]  # by calibration image


def p_values(calibration: Tensor, scores: Tensor, groups: Groups | None = None) -> Tensor:
    """The split-conformal p-value of each score.

    It is (1 + number of calibration scores at or above) / (h + 1): for a normal image exchangeable with the calibration
    images, P(p <= a) <= a for every a (Vovk et al., 2005; Bates et al., 2023). Where calibration images come in groups,
    only the groups are exchangeable. Then a group of g images counts once, each of its images 1/g, and h is the number
    of groups: the promise holds for a normal image of a new group (Dunn, Wasserman & Ramdas, "Distribution-free
    prediction sets for two-layer hierarchical models", 2022; Lee, Barber & Willett, "Distribution-free inference with
    hierarchical data", 2023).

    Args:
        calibration: Scores (h,) of held-out normal images.
        scores: Scores (k,) of the images to decide on, by the same detector.
        groups: The group of each calibration image; None: each image is one of its own.

    Returns:
        p-values (k,), float64.

    Example:
        >>> p_values(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.5, 4.0])).tolist()
        [1.0, 0.5, 0.25]
        >>> p_values(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.5, 4.0]), groups=[0, 1, 1]).tolist()
        [1.0, 0.5, 0.3333333333333333]
    """
    return cross_p_values([(calibration, scores)], [groups])


def without_rounding(calibration: Tensor, scores: Tensor) -> Tensor:
    """The scores (k,), lowered by what the rounding of a detector may add.

    A copy of a calibration image then ties with it in whatever batch it is scored, and has one p-value. P-values can
    only rise by it, so that what they promise holds.
    """
    return scores.double() - score_rounding(calibration)


def score_rounding(calibration: Tensor) -> float:
    """How much of a difference of scores may be rounding, for a detector with these scores of calibration images.

    No more than a share of their range: how far they are from zero says nothing where zero may lie anywhere.
    """
    values = calibration.double()
    largest, extent = values.abs().max().item(), (values.max() - values.min()).item()
    return min(SCORE_ROUNDING * largest, ROUNDED_RANGE * extent or math.inf)


def cross_p_values(folds: Sequence[tuple[Tensor, Tensor]], groups: Sequence[Groups | None] | None = None) -> Tensor:
    """The cross-conformal p-value of each image; with one fold, the split-conformal one.

    It is (K + number of calibration scores at or above the image's score by the same detector) / (n + K), where n
    counts the calibration images, or their groups, of all K folds: the mean of the folds' split-conformal p-values,
    each weighted by the size of its fold and one. Such a mean of p-values keeps P(p <= 2 a) within 2 a and so P(p <= a)
    within 2 a (Vovk, "Cross-conformal predictors", 2015; Vovk & Wang, "Combining p-values via averaging", 2020), which
    (1 + number) / (n + 1) does not where folds are small: of 5 folds and 20 images that bound is .45 at a = .05.

    Args:
        folds: For each fold the scores (h,) of its held-out images and the scores (k,) of the images to decide on, both
            by the detector that did not learn from the held-out images.
        groups: For each fold the groups of its held-out images, as for ``p_values``; no group is in two folds.

    Returns:
        p-values (k,), float64.
    """
    above = torch.zeros(len(folds[0][1]), dtype=torch.float64)
    units = 0
    for (calibration, scores), own in zip(folds, groups or [None] * len(folds), strict=True):
        above += _weight_at_or_above(calibration, scores, own)
        units += n_units(len(calibration), own)
    return (len(folds) + above) / (units + len(folds))


def n_units(n_images: int, groups: Groups | None) -> int:
    """How many calibration units there are: groups, or images where there are none."""
    return n_images if groups is None else len(set(groups))


def image_weights(n_images: int, groups: Groups | None) -> Tensor:
    """What each image counts (h,): one over the size of its group."""
    weights = torch.ones(n_images, dtype=torch.float64)
    if groups is None:
        return weights
    _, group_of, sizes = torch.tensor(groups).unique(return_inverse=True, return_counts=True)
    return weights / sizes[group_of]


def _weight_at_or_above(calibration: Tensor, scores: Tensor, groups: Groups | None) -> Tensor:
    """The weight (k,) of the calibration scores at or above each score, that of a whole group being 1."""
    weights = image_weights(len(calibration), groups)
    ordered, order = calibration.sort()
    from_place_on = torch.cat([weights[order].flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=torch.float64)])
    places = torch.searchsorted(ordered, scores.to(ordered.dtype).contiguous(), side="left")
    return from_place_on[places].round(decimals=12)  # 1/3 three times is one


def min_false_alarm_rate(n_calibration: int, folds: int = 1) -> float:
    """The smallest false-alarm rate that so many calibration images, or groups of them, support.

    It is 1 / (h + 1), of K folds K / (n + K).
    """
    return folds / (n_calibration + folds)


def n_supporting(rate: float, folds: int = 1) -> int:
    """How many calibration images, or groups of them, support a false-alarm rate."""
    n = max(0, math.floor(folds * (1 / rate - 1)) - 1)
    return next(count for count in itertools.count(n) if min_false_alarm_rate(count, folds) <= rate)


def validate_rate(
    rate: float | None, n_calibration: int, *, folds: int = 1, unit: str = "images", instead: str = ""
) -> float:
    """The false-alarm rate to decide at.

    Args:
        rate: The rate that the user chose; None: .05, or the smallest supported one where that is higher.
        n_calibration: How many calibration images, or groups of them, there are.
        folds: Of the calibration, 1 where it is split-conformal.
        unit: What was counted, "images" or "groups".
        instead: What else supports a lower rate, for the error.

    Returns:
        The rate, in (0, 1).

    Raises:
        InputError: The rate is outside (0, 1), or lower than the calibration images support.
    """
    smallest = min_false_alarm_rate(n_calibration, folds)
    if rate is None:
        return max(DEFAULT_FALSE_ALARM_RATE, smallest)
    if not (math.isfinite(rate) and 0 < rate < 1):
        raise InputError(f"false_alarm_rate={rate}", "must be between 0 and 1", "try 0.05")
    if rate < smallest:
        raise InputError(
            f"false_alarm_rate={rate}",
            f"{n_calibration} calibration {unit} support rates from {smallest:.3g} upwards, and it needs "
            f"{n_supporting(rate, folds)}",
            f"use {math.ceil(smallest * 1000) / 1000} or more, {instead}or select with normal images"
            f"{' of more groups' if unit == 'groups' else ' in greater number'}",
        )
    return rate


def benjamini_hochberg(p: Tensor, rate: float) -> Tensor:
    """Which images to call anomalous so that the expected share of normal ones among them is ``rate`` at most.

    Holds for the split-conformal p-values of one calibration set, which depend on each other positively (Benjamini and
    Hochberg, 1995; Bates et al., "Testing for Outliers with Conformal p-values", 2023). It is not proved for those of
    several folds or of groups: these keep twice the false-alarm rate, or the rate, one image at a time, and whether
    they depend positively is not known. Whatever the dependence, k such p-values of folds keep
    2 (1 + 1/2 + ... + 1/k) times the rate, and those of groups half of that (Benjamini and Yekutieli, 2001).

    Args:
        p: p-values (k,).
        rate: The false discovery rate, in (0, 1).

    Returns:
        Bools (k,).

    Raises:
        InputError: The rate is outside (0, 1).
    """
    _require_fdr(rate)
    adjusted = false_discovery_control(p.double().numpy(), method="bh")
    return torch.from_numpy(adjusted <= rate * (1 + ROUNDING))


def validate_fdr(rate: float, smallest_p_value: float) -> None:
    """Refuse a false discovery rate that no image can reach, however many are anomalous.

    Raises:
        InputError: The rate is outside (0, 1), or below the smallest p-value, so that nothing is ever rejected.
    """
    _require_fdr(rate)
    if fewest_rejected(rate, smallest_p_value, n_images=1) is None:
        raise InputError(
            f"fdr={rate}",
            f"the smallest p-value that the calibration images support is {smallest_p_value:.3g}, so that no image "
            "could be called anomalous",
            f"use {math.ceil(smallest_p_value * 1000) / 1000} or more, or select with more normal images (or groups)",
        )


def fewest_rejected(rate: float, smallest_p_value: float, n_images: int) -> int | None:
    """How many of the images Benjamini and Hochberg reject together, or none of them; None where it is always none.

    Args:
        rate: The false discovery rate.
        smallest_p_value: That the calibration images support.
        n_images: That are decided on together.
    """
    if smallest_p_value > rate * (1 + ROUNDING):
        return None
    return max(1, math.ceil(smallest_p_value * n_images / rate * (1 - ROUNDING)))


def _require_fdr(rate: float) -> None:
    if not (math.isfinite(rate) and 0 < rate < 1):
        raise InputError(f"fdr={rate}", "must be between 0 and 1", "try 0.1")
