"""What a detector says of images, as a table and as pictures."""

import hashlib
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from selector.detection.conformal import smallest_rate
from selector.detection.regions import Region, find

LONGEST_NAME = 255  # bytes: of a file name on the usual file systems
OPACITY = 0.5  # of the heatmap where it is hottest
HEAT_COLOURS = (0.25, 0.8)  # the part of the colour map in use: its pale end would hide the defect it marks


@dataclass(frozen=True, eq=False)
class Detections:
    """k images: names, scores (k,), conformal p_values (k,), is_anomaly (k,) bool, maps (k,H,W), and the sizes
    (height, width) in pixels that the images had when they were read.

    is_anomaly means p <= false_alarm_rate: of normal images like the calibration images, at most that share is
    called anomalous on average; where ``fdr`` is set, at most that share of the images called anomalous is normal.
    A normal image exceeds ``map_threshold`` anywhere at the false-alarm rate at most.
    """

    names: tuple[str, ...]
    scores: Tensor
    p_values: Tensor
    is_anomaly: Tensor
    maps: Tensor
    false_alarm_rate: float
    n_calibration: int
    sizes: tuple[tuple[int, int], ...]
    map_threshold: float
    fdr: float | None = None
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def smallest_p_value(self) -> float:
        """The smallest that so many calibration images can give."""
        return smallest_rate(self.n_calibration)

    @cached_property
    def regions(self) -> tuple[tuple[Region, ...], ...]:
        """For each image its anomalous regions, none for one that is called normal."""
        return tuple(
            find(score_map, self.map_threshold, size) if flagged else ()
            for score_map, size, flagged in zip(self.maps, self.sizes, self.is_anomaly.tolist(), strict=True)
        )

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row an image: name, score, p_value, verdict, and the boxes (left, top, right, bottom) and areas of its
        anomalous regions in pixels of the original image, highest peak first."""
        return pd.DataFrame(
            {
                "name": self.names,
                "score": self.scores.numpy(),
                "p_value": self.p_values.numpy(),
                "verdict": np.where(self.is_anomaly.numpy(), "anomaly", "normal"),
                "boxes": pd.Series([[region.box for region in found] for found in self.regions], dtype=object),
                "areas": pd.Series([[region.area for region in found] for found in self.regions], dtype=object),
            }
        )


def overlay(image: Tensor, score_map: Tensor, scale: tuple[float, float]) -> np.ndarray:
    """An image (C,H,W) in [0,1] under its score map (H,W), as (H,W,3) uint8.

    ``scale`` is one for a whole run, so that colours compare between images: up to its lower end nothing is laid
    over the image; at its upper end and beyond the colour is full.
    """
    low, high = scale
    heat = ((score_map - low) / max(high - low, 1e-12)).clamp(0, 1).numpy()
    colours = matplotlib.colormaps["inferno"](HEAT_COLOURS[0] + (HEAT_COLOURS[1] - HEAT_COLOURS[0]) * heat)[..., :3]
    base = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    alpha = OPACITY * np.sqrt(heat)[..., None]
    return (255 * ((1 - alpha) * base + alpha * colours)).round().astype(np.uint8)


def picture_path(name: str) -> Path:
    """Where the picture made of an image goes, below a folder of pictures: ``lot 1/a.png`` to ``lot 1/a.png.png``.

    A name that leads out of that folder, or that no file system takes, keeps its last part and gets a digest, so
    that different images never share a picture.
    """
    given = PurePosixPath(name)
    inside = bool(given.name) and str(given) == name and not given.is_absolute() and ".." not in given.parts
    if inside and len(os.fsencode(given.name)) <= LONGEST_NAME - len(".png"):
        return Path(f"{given}.png")
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]
    return Path(given.parent if inside else "") / f"{given.stem[:40]}-{digest}.png"


def write_heatmap(path: Path, image: Tensor, score_map: Tensor, scale: tuple[float, float], size: int = 256) -> None:
    """Write the image beside its overlay as one PNG, each at least ``size`` px high."""
    plain = (255 * image.expand(3, -1, -1).permute(1, 2, 0).numpy()).round().astype(np.uint8)
    pair = Image.fromarray(np.concatenate([plain, overlay(image, score_map, scale)], axis=1))
    factor = max(1, math.ceil(size / image.shape[-2]))
    path.parent.mkdir(parents=True, exist_ok=True)
    pair.resize((pair.width * factor, pair.height * factor), Image.Resampling.BICUBIC).save(path, format="PNG")


def write_mask(path: Path, score_map: Tensor, above: float, original: tuple[int, int]) -> None:
    """Write where a map (H,W) exceeds ``above`` as a PNG of the original's (height, width): 255 there, else 0."""
    mask = Image.fromarray((score_map.numpy() > above).astype(np.uint8) * 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    mask.resize(original[::-1], Image.Resampling.NEAREST).save(path, format="PNG")
