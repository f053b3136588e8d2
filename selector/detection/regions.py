"""Where an image is anomalous: connected regions of its score map."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from torch import Tensor

TOUCHING = np.ones((3, 3))  # pixels that share a corner belong to one region


@dataclass(frozen=True)
class Region:
    """A connected set of pixels above the threshold, in pixels of the original image.

    box: left, top, right, bottom, the last two exclusive. area: in pixels. peak: the highest map score inside.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float


def threshold(calibration_maxima: Tensor, rate: float) -> float:
    """The map score that a normal image exceeds anywhere with probability ``rate`` at most.

    calibration_maxima (h,): the highest map score of each calibration image. Their split-conformal quantile, as for
    image scores; infinite where the calibration images are too few for the rate.
    """
    ordered = calibration_maxima.sort().values
    rank = math.ceil((1 - rate) * (len(ordered) + 1))
    return ordered[rank - 1].item() if rank <= len(ordered) else math.inf


def find(score_map: Tensor, above: float, original: tuple[int, int]) -> tuple[Region, ...]:
    """The regions of a map (H,W) that exceed ``above``, highest peak first, for an image that was ``original``
    (height, width) pixels large when it was read."""
    values = score_map.numpy()
    labels, _ = ndimage.label(values > above, TOUCHING)
    down, across = original[0] / values.shape[0], original[1] / values.shape[1]
    found = []
    for i, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == i
        box = (
            math.floor(columns.start * across),
            math.floor(rows.start * down),
            math.ceil(columns.stop * across),
            math.ceil(rows.stop * down),
        )
        area = round(int(inside.sum()) * down * across)
        found.append(Region(box, area, float(values[rows, columns][inside].max())))
    return tuple(sorted(found, key=lambda region: -region.peak))
