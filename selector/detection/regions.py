"""Where an image is anomalous: connected regions of its score map."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from selector.detection.conformal import Groups, p_values

TOUCHING = np.ones((3, 3))  # pixels that share a corner belong to one region


@dataclass(frozen=True)
class Region:
    """A connected set of pixels above the threshold, in pixels of the original image.

    Attributes:
        box: Left, top, right, bottom; the last two exclusive.
        area: In pixels.
        peak: The highest map score inside.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float


def map_threshold(calibration_maxima: Tensor, rate: float, groups: Groups | None = None) -> float:
    """The map score that a normal image exceeds anywhere with probability ``rate`` at most.

    It is the lowest of the calibration maxima above which a p-value is the rate at most, as for image scores.

    Args:
        calibration_maxima: The highest map score (h,) of each calibration image.
        rate: The false-alarm rate, in (0, 1).
        groups: The group of each calibration image, as for ``p_values``.

    Returns:
        The threshold; infinite where the calibration images are too few for the rate.
    """
    just_above = torch.nextafter(calibration_maxima, torch.tensor(math.inf, dtype=calibration_maxima.dtype))
    enough = calibration_maxima[p_values(calibration_maxima, just_above, groups) <= rate]
    return enough.min().item() if len(enough) else math.inf


def anomalous_pixels(score_map: Tensor, above: float) -> np.ndarray:
    """Which pixels (H,W) of a score map belong to an anomalous region, as bools.

    Of each connected set of pixels above the threshold those that rise at least half as far above it as its highest
    (its full width at half maximum). A detector that looks at patches spreads what it finds over all that contain it,
    and what a threshold alone cuts out is then as wide as the patches. There is a pixel exactly where one exceeds the
    threshold, so the threshold keeps its false-alarm rate.

    Args:
        score_map: The anomaly score per pixel (H,W).
        above: The threshold.
    """
    values = score_map.double().numpy()
    labels, n = ndimage.label(values > above, TOUCHING)
    if n == 0:
        return labels > 0
    peaks = np.concatenate([[math.inf], ndimage.maximum(values, labels, np.arange(1, n + 1))])
    return (labels > 0) & (values - above >= (peaks[labels] - above) / 2)


def find_regions(score_map: Tensor, above: float, original: tuple[int, int]) -> tuple[Region, ...]:
    """The connected regions of the ``anomalous_pixels`` of a score map, the region of the highest score first.

    Args:
        score_map: The anomaly score per pixel (H,W).
        above: The threshold.
        original: Height and width of the image as it was read, in pixels, which boxes and areas refer to.
    """
    values = score_map.numpy()
    labels, _ = ndimage.label(anomalous_pixels(score_map, above), TOUCHING)
    down, across = original[0] / values.shape[0], original[1] / values.shape[1]
    regions = []
    for i, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == i
        box = (
            math.floor(columns.start * across),
            math.floor(rows.start * down),
            math.ceil(columns.stop * across),
            math.ceil(rows.stop * down),
        )
        area = round(int(inside.sum()) * down * across)
        regions.append(Region(box, area, float(values[rows, columns][inside].max())))
    return tuple(sorted(regions, key=lambda region: -region.peak))
