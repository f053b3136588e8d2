"""Score maps as pictures: heatmaps laid over images, and masks of what exceeds a threshold."""

import hashlib
import io
import math
import os
from pathlib import Path, PurePosixPath

import matplotlib
import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from detectors import files
from selector.detection.regions import anomalous_pixels

LONGEST_NAME = 255  # bytes: of a file name on the usual file systems
NARROW = 0.25  # of the range of levels: images that span less are stretched, such as 12 or 14 bits of a camera in 16
TAILS = (0.01, 0.99)  # quantiles between which levels are said to span: one bright pixel does not count
LONGEST_SIDE = 1024  # px of a picture of a large image
ELONGATED = 2.0  # times as wide as high: its overlay is below it, not beside it
OPACITY = 0.5  # of the heatmap where it is hottest
HEAT_COLOURS = (0.25, 0.8)  # the part of the colour map in use: its pale end would hide the defect it marks


def overlay(image: Tensor, score_map: Tensor, scale: tuple[float, float]) -> np.ndarray:
    """An image with its score map laid over it in colour.

    Args:
        image: The image (C,H,W), in [0,1].
        score_map: Its anomaly score per pixel (H,W).
        scale: The two ends of the colour scale, the same for a whole run so that colours compare between images: up to
            the lower end nothing is laid over the image, at the upper end and beyond the colour is full.

    Returns:
        (H,W,3) uint8.
    """
    low, high = scale
    heat = ((score_map - low) / max(high - low, 1e-12)).clamp(0, 1).numpy()
    colours = matplotlib.colormaps["inferno"](HEAT_COLOURS[0] + (HEAT_COLOURS[1] - HEAT_COLOURS[0]) * heat)[..., :3]
    base = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    alpha = OPACITY * np.sqrt(heat)[..., None]
    return (255 * ((1 - alpha) * base + alpha * colours)).round().astype(np.uint8)


def picture_path(name: str) -> Path:
    """The path of the picture made of an image, in a folder of pictures: ``lot 1/a.png`` gives ``lot 1/a.png.png``.

    A name that leads out of that folder, or that no file system takes, keeps its last part and gets a digest, so
    that different images never share a picture.
    """
    path = PurePosixPath(name)
    inside = bool(path.name) and str(path) == name and not path.is_absolute() and ".." not in path.parts
    if inside and len(os.fsencode(path.name)) <= LONGEST_NAME - len(".png"):
        return Path(f"{path}.png")
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]
    return Path(path.parent if inside else "") / f"{path.stem[:40]}-{digest}.png"


def levels(image: Tensor) -> tuple[float, float]:
    """The two levels to show as black and white: 0 and 1, or those that a dark or pale image spans.

    Args:
        image: The image (C,H,W), in [0,1].
    """
    ordered = image.float().flatten().sort().values
    low, high = (ordered[round(share * (len(ordered) - 1))].item() for share in TAILS)
    return (low, high) if 0 < high - low < NARROW else (0.0, 1.0)


def stretched(image: Tensor, ends: tuple[float, float]) -> Tensor:
    """An image (C,H,W) with these ``levels`` shown as black and white."""
    return ((image.float() - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)


def shown_size(original: tuple[int, int], least: int) -> tuple[int, int]:
    """Height and width of a picture of an image, in its aspect.

    The longer side is that of the original up to ``LONGEST_SIDE``, and at least ``least`` px.
    """
    longest = max(least, min(max(original), LONGEST_SIDE))
    height, width = (max(1, round(longest * side / max(original))) for side in original)
    return height, width


def resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    """An image (C,H,W) or a map (H,W) at another height and width."""
    if values.shape[-2:] == size:
        return values
    whole = values.float().reshape(1, -1, *values.shape[-2:])
    return interpolate(whole, size, mode="bilinear", antialias=True).reshape(*values.shape[:-2], *size)


def write_heatmap(
    path: Path,
    image: Tensor,
    score_map: Tensor,
    scale: tuple[float, float],
    size: int = 256,
    original: tuple[int, int] | None = None,
) -> None:
    """Write an image and its overlay as one PNG: side by side, or the overlay below an image that is wide.

    The picture has the aspect of the original, and ``levels`` of a dark or pale image are stretched.

    Args:
        path: The file to write; missing folders are made.
        image: The image (C,H,W), in [0,1].
        score_map: Its anomaly score per pixel (H,W).
        scale: The two ends of the colour scale, as for ``overlay``.
        size: The least length of the image's longer side in the picture, in pixels.
        original: Height and width of the image as it was read, in pixels; None: those of ``image``.
    """
    longest = max(image.shape[-2:])
    least = longest * max(1, math.ceil(size / longest))
    shown = shown_size(original or (image.shape[-2], image.shape[-1]), least)
    picture = stretched(resized(image, shown), levels(image)).clamp(0, 1)
    plain = (255 * picture.expand(3, -1, -1).permute(1, 2, 0).numpy()).round().astype(np.uint8)
    below = shown[1] >= ELONGATED * shown[0]
    heat = overlay(picture, resized(score_map, shown), scale)
    _write_png(path, Image.fromarray(np.concatenate([plain, heat], axis=0 if below else 1)))


def write_mask(path: Path, score_map: Tensor, above: float, original: tuple[int, int]) -> None:
    """Write the ``anomalous_pixels`` of a score map as a PNG: 255 there, 0 elsewhere.

    Args:
        path: The file to write; missing folders are made.
        score_map: The anomaly score per pixel (H,W).
        above: The threshold.
        original: Height and width of the image as it was read, in pixels, which the mask gets.
    """
    mask = Image.fromarray(anomalous_pixels(score_map, above).astype(np.uint8) * 255)
    _write_png(path, mask.resize(original[::-1], Image.Resampling.NEAREST))


def _write_png(path: Path, picture: Image.Image) -> None:
    content = io.BytesIO()
    picture.save(content, format="PNG")
    files.write_bytes(path, content.getvalue(), durable=False)  # waiting for the disk would take longer than scoring
