"""Score maps as pictures: heatmaps laid over images, and masks of what exceeds a threshold."""

import hashlib
import math
import os
from pathlib import Path, PurePosixPath

import matplotlib
import numpy as np
from PIL import Image
from torch import Tensor

from selector.detection.regions import anomalous_pixels

LONGEST_NAME = 255  # bytes: of a file name on the usual file systems
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


def write_heatmap(path: Path, image: Tensor, score_map: Tensor, scale: tuple[float, float], size: int = 256) -> None:
    """Write an image beside its overlay as one PNG.

    Args:
        path: The file to write; missing folders are made.
        image: The image (C,H,W), in [0,1].
        score_map: Its anomaly score per pixel (H,W).
        scale: The two ends of the colour scale, as for ``overlay``.
        size: The least height of the picture in pixels.
    """
    plain = (255 * image.expand(3, -1, -1).permute(1, 2, 0).numpy()).round().astype(np.uint8)
    pair = Image.fromarray(np.concatenate([plain, overlay(image, score_map, scale)], axis=1))
    factor = max(1, math.ceil(size / image.shape[-2]))
    path.parent.mkdir(parents=True, exist_ok=True)
    pair.resize((pair.width * factor, pair.height * factor), Image.Resampling.BICUBIC).save(path, format="PNG")


def write_mask(path: Path, score_map: Tensor, above: float, original: tuple[int, int]) -> None:
    """Write the ``anomalous_pixels`` of a score map as a PNG: 255 there, 0 elsewhere.

    Args:
        path: The file to write; missing folders are made.
        score_map: The anomaly score per pixel (H,W).
        above: The threshold.
        original: Height and width of the image as it was read, in pixels, which the mask gets.
    """
    mask = Image.fromarray(anomalous_pixels(score_map, above).astype(np.uint8) * 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    mask.resize(original[::-1], Image.Resampling.NEAREST).save(path, format="PNG")
