"""Metrics of scores, of score maps and of the rate of false alarms, computed with labels."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.signal import fftconvolve
from scipy.stats import betabinom
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from augmentations import InputError
from selector.detection.conformal import validate_rate

FPR_LIMIT = 0.3  # of AUPRO; Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021
# Pixels of one image that touch at a side or corner are one anomaly, as in the evaluation that MVTec publishes; those
# of two images never are: the first axis counts images.
WITHIN_IMAGES = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: the chance that an anomaly outscores a normal image, ties counting half.

    scores (k,), higher = more anomalous; labels (k,) 0 or 1. Raises InputError for labels of another kind or of one
    class only, and for scores that are not finite.
    """
    scores, labels = _check(scores, labels)
    return float(roc_auc_score(labels, scores))


def aupr(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the precision-recall curve as a sum of steps (average precision), anomalies being positive.

    scores (k,); labels (k,). Raises InputError as ``auroc`` does.
    """
    scores, labels = _check(scores, labels)
    return float(average_precision_score(labels, scores))


def f1_max(scores: ArrayLike, labels: ArrayLike) -> float:
    """The best F1 score that any threshold reaches; a bound, as that threshold is chosen with labels.

    scores (k,); labels (k,). Raises InputError as ``auroc`` does.
    """
    scores, labels = _check(scores, labels)
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)))


def image_metrics(scores: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """``auroc``, ``aupr`` and ``f1_max`` of scores (k,) and labels (k,), by name.

    Raises InputError as ``auroc`` does.
    """
    return {measure.__name__: measure(scores, labels) for measure in (auroc, aupr, f1_max)}


class LocalizationMetrics:
    """Pixel AUROC and AUPRO of score maps that come in batches.

    Both are exact, ties included: no threshold grid, no histogram. Between batches, 4 bytes per normal pixel and 8 per
    anomalous one are kept, as float32 scores; nothing else grows with the number of images. Anomalies are 8-connected
    regions of a mask.

    Args:
        limit: the false-positive rate, in (0,1], up to which AUPRO integrates the mean overlap with anomalies, and by
            which it is divided, so that it lies in [0,1].

    Raises:
        InputError: for another limit.

    Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021.
    """

    def __init__(self, limit: float = FPR_LIMIT) -> None:
        if not 0 < limit <= 1:
            raise InputError(f"limit={limit}", "must be in (0, 1]", f"try {FPR_LIMIT}")
        self.limit = limit
        self._normal: list[np.ndarray] = []  # sorted scores, one array per batch
        self._anomalous: list[tuple[np.ndarray, np.ndarray]] = []  # sorted scores and the areas of their regions

    def update(self, maps: ArrayLike, masks: ArrayLike) -> None:
        """Add the score maps (b,H,W), higher = more anomalous, and masks (b,H,W), 0 or 1, of some images.

        Raises InputError for other shapes, masks that are not 0 or 1, and scores that are not finite as float32.
        """
        maps, masks = _check_maps(maps, masks)
        regions, _ = ndimage.label(masks, WITHIN_IMAGES)
        anomalous = masks == 1
        areas = np.bincount(regions.ravel()).astype(np.int32)[regions[anomalous]]
        scores = maps[anomalous]
        order = scores.argsort()
        self._normal.append(np.sort(maps[~anomalous]))
        self._anomalous.append((scores[order], areas[order]))

    def compute(self) -> dict[str, float]:
        """``pixel_auroc`` and ``aupro`` of all images added so far.

        Raises InputError if none of their pixels is anomalous, or none normal.
        """
        n_normal = sum(map(len, self._normal))
        n_anomalous = sum(len(scores) for scores, _ in self._anomalous)
        if not (n_normal and n_anomalous):
            which = "normal" if n_anomalous else "anomalous"
            raise InputError("masks", f"hold no {which} pixel", "add images with both kinds of pixels")
        roc = pro = n_regions = 0.0
        for scores, areas in self._anomalous:
            # An anomalous pixel is found from the false-positive rate on at which the threshold passes its score.
            above, at_or_above = (self._normal_from(scores, side) / n_normal for side in ("right", "left"))
            roc += _share_found(above, at_or_above, 1.0).sum()
            # A region counts as one, so each of its pixels as 1 / area.
            pro += (_share_found(above, at_or_above, self.limit) / areas).sum()
            n_regions += (1 / areas).sum()
        return {"pixel_auroc": float(roc / n_anomalous), "aupro": float(pro / n_regions)}

    def _normal_from(self, scores: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
        """How many normal pixels score at least ("left") or above ("right") each of ``scores`` (m,)."""
        counts = np.zeros(len(scores), np.int64)
        for normal in self._normal:
            counts += len(normal) - normal.searchsorted(scores, side)
        return counts


def _share_found(above: np.ndarray, at_or_above: np.ndarray, limit: float) -> np.ndarray:
    """For how much of the false-positive rates from 0 to ``limit`` each pixel (m,) is found, in [0,1].

    Not below the rate ``above``, always from ``at_or_above`` on, and linearly more in between, where normal pixels
    tie with it: the area below the curve of a single pixel. The curve of many is the mean of theirs.
    """
    tied = at_or_above - above
    inside = (limit - above).clip(0, tied)
    rising = np.divide(inside**2, 2 * tied, out=np.zeros_like(tied), where=tied > 0)
    return (rising + (limit - at_or_above).clip(0)) / limit


def false_alarm_band(
    n_calibration: int, n_test: int, rate: float, confidence: float = 0.99, splits: int = 20
) -> tuple[float, float]:
    """The band that the mean realised false-alarm rate of split-conformal p-values must lie in.

    The number of false alarms in a split is beta-binomial, whatever the scores, if all are different and exchangeable;
    ``splits`` such numbers, independent as they are when one pool of scored images is divided at random again and
    again, are added exactly.

    Args:
        n_calibration: normal images to calibrate with, of each split.
        n_test: normal images to decide on, of each split.
        rate: the p-value up to which alarms are raised.
        confidence: the least probability of the band, which leaves out at most (1 - confidence) / 2 on each side.
        splits: how many splits the mean is over.

    Returns:
        The ends (low, high) of the band.

    Raises:
        InputError: for a rate that the calibration images cannot support, a confidence outside (0,1), or counts
            below 1.

    Source: Marques F., "Universal distribution of the empirical coverage in split conformal prediction", 2023.
    """
    for name, count in (("n_calibration", n_calibration), ("n_test", n_test), ("splits", splits)):
        if count < 1:
            raise InputError(f"{name}={count}", "must be at least 1", "count the images, or use splits=20")
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence}", "must be between 0 and 1", "try 0.99")
    validate_rate(rate, n_calibration)
    # Counted, not rounded down from rate * (h + 1), which may be an ulp off.
    raised = int((np.arange(1, n_calibration + 1) / (n_calibration + 1) <= rate).sum())
    one_split = betabinom(n_test, raised, n_calibration + 1 - raised).pmf(np.arange(n_test + 1))
    total = one_split
    for _ in range(splits - 1):
        total = fftconvolve(total, one_split)
    tail = (1 - confidence) / 2
    # The first count that more than a tail lies at or below, and the last that more than a tail lies at or above.
    low = int((total.cumsum() <= tail).sum())
    high = len(total) - 1 - int((total[::-1].cumsum() <= tail).sum())
    return low / (splits * n_test), high / (splits * n_test)


def _check(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = _finite("scores", np.asarray(scores, float)), _binary("labels", labels)
    _check_same_shape("scores", scores, "labels", labels)
    if scores.ndim != 1:
        raise InputError("scores", f"must be (k,), not {scores.shape}", "give one score per image")
    for label, what in ((0, "normal image"), (1, "anomaly")):
        if not (labels == label).any():
            raise InputError("labels", f"hold no {what} ({label})", "evaluate on images of both classes")
    return scores, labels


def _check_maps(maps: ArrayLike, masks: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    maps, masks = _finite("maps", np.asarray(maps, np.float32)), _binary("masks", masks)
    _check_same_shape("maps", maps, "masks", masks)
    if maps.ndim != 3:
        raise InputError("maps", f"must be (b,H,W), not {maps.shape}", "give one map per image, without channels")
    return maps, masks


def _finite(name: str, values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise InputError(name, "must be finite", "find out why the detector gives NaN or infinity")
    return values


def _binary(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    if not np.isin(array, (0, 1)).all():
        raise InputError(name, "must be 0 or 1", "1 = anomalous, as in Task")
    return array.astype(np.uint8)


def _check_same_shape(name: str, values: np.ndarray, other: str, others: np.ndarray) -> None:
    if values.shape != others.shape:
        raise InputError(name, f"have the shape {values.shape}, but {other} {others.shape}", "give them one shape")
