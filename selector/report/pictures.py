"""Images as data URIs, so that the page needs no other file."""

import base64
import math
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from selector.detection.heatmaps import levels, overlay, resized, shown_size, stretched
from selector.detection.regions import anomalous_pixels

OUTLINE = (255, 64, 64)  # the colour of a line around a region
OUTLINED = 128  # px: a line needs pixels finer than those of a small image
LARGEST = 224  # px per side: twice the width at which a page shows them
LOSSLESS = 96  # px per side up to which PNG is small enough, and exact


def plain(image: Tensor) -> np.ndarray:
    """An image (C,H,W) in [0,1] as (H,W,3) uint8."""
    return (255 * image.float().expand(3, -1, -1).permute(1, 2, 0).numpy()).round().astype(np.uint8)


def for_show(image: Tensor, original: tuple[int, int], ends: tuple[float, float] | None = None) -> Tensor:
    """An image (C,H,W) in the original's aspect, at the size of a page, with its levels stretched where it is dark.

    Args:
        image: The image, in [0,1].
        original: Height and width of the image as it was read, in pixels.
        ends: The levels that become black and white; None: the image's own ``levels``.
    """
    longest = max(image.shape[-2:])
    height, width = shown_size(original, longest)
    factor = min(1.0, max(longest, LARGEST) / max(height, width))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    return stretched(resized(image, size), ends or levels(image)).clamp(0, 1)


def outlined(image: Tensor, score_map: Tensor, above: float) -> np.ndarray:
    """An image (C,H,W), at least ``OUTLINED`` px wide, with a line around its ``anomalous_pixels``."""
    factor = max(1, math.ceil(OUTLINED / image.shape[-1]))
    picture = plain(image).repeat(factor, 0).repeat(factor, 1)
    fine = torch.nn.functional.interpolate(score_map[None, None], scale_factor=factor, mode="bilinear")[0, 0]
    region = anomalous_pixels(fine, above)
    picture[region & ~ndimage.binary_erosion(region, iterations=2, border_value=0)] = OUTLINE
    return picture


def uri(pixels: np.ndarray) -> str:
    """(H,W,3) uint8 as a data URI: PNG where it is small, else JPEG of at most ``LARGEST`` px."""
    picture = Image.fromarray(pixels)
    lossless = max(picture.size) <= LOSSLESS
    if not lossless:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    file = BytesIO()
    if lossless:
        picture.save(file, "PNG", optimize=True)
    else:
        picture.save(file, "JPEG", quality=88, subsampling=0)
    return f"data:image/{'png' if lossless else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"


def color_bar(width: int = 96, height: int = 4) -> str:
    """The colour scale of overlays on mid-gray, as a data URI: the lower end left, the upper end right."""
    gray = torch.full((1, height, width), 0.5)
    return uri(overlay(gray, torch.linspace(0, 1, width).expand(height, -1), (0.0, 1.0)))
