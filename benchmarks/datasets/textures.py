"""Textures with a fault of the whole image: seen upside down, with closer spacing, out of focus.

``brick``: a wall, scikit-image's photo (CC0). ``terrain``: the shaded relief of the elevations around Jacksboro,
Tennessee, that matplotlib ships as ``jacksboro_fault_dem`` (U.S. Geological Survey, public domain); it is lit from the
north-west, as maps are, so that upside down its ridges look like valleys.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.datasets.photos import pixels_of
from benchmarks.datasets.resampled import SIDE, assemble, refuse_root, resample, uniform
from benchmarks.tasks.task import SPLIT_SEED, Loader, Task

SUFFIX = "-texture"
N_TRAIN, N_TEST = 300, 150  # images; normal ones, and as many of each kind of anomaly
ZOOM = (0.95, 1.05)  # of the texture's own zoom
TURN = (-4.0, 4.0)  # degrees
REACH = 2  # px around it, that bicubic interpolation reads
AZIMUTH, ALTITUDE = 315, 45  # degrees, of the lamp of the relief
EXAGGERATION = 0.05  # of heights


@dataclass(frozen=True)
class Texture:
    """pixels: gives the picture (H,W) in [0,1]. block: side in px of what lies on one side of the division only. zoom:
    px of the picture for each px of an image. faults: by kind."""

    pixels: Callable[[], np.ndarray]
    block: int
    zoom: float
    faults: dict[str, "Fault"]


@dataclass(frozen=True)
class Fault:
    """How an anomaly is seen: zoom, times the normal one; turn, degrees added; blur, px of the image, the standard
    deviation of a Gaussian."""

    zoom: float = 1.0
    turn: float = 0.0
    blur: float = 0.0


def load(name: str, root: str | Path | None, image_size: int) -> Task:
    """Pieces of one picture at random places, zooms and turns; anomalies are other pieces of it, seen with a fault.

    The picture is divided into blocks at random: half of them are for training, a quarter for normal test images and a
    quarter for anomalies, and every image lies within one block. Raises InputError when scikit-image is not installed,
    or for a root.
    """
    refuse_root(name, root, "comes with the packages scikit-image and matplotlib")
    texture = TEXTURES[name.removesuffix(SUFFIX)]
    picture = texture.pixels()
    centres = _blocks(picture.shape, texture.block)
    centres = centres[torch.randperm(len(centres), generator=generator(SPLIT_SEED, "benchmarks", name))]
    for_training, for_normal, for_anomalies = centres.tensor_split([len(centres) // 2, len(centres) * 3 // 4])

    def images(part: str, n: int, centres: Tensor, fault: Fault) -> Tensor:
        source = generator(SPLIT_SEED, "benchmarks", name, part)
        return _seen(picture, texture, fault, n, centres, source)

    return assemble(
        name,
        image_size,
        images("train", N_TRAIN, for_training, Fault()),
        images("normal", N_TEST, for_normal, Fault()),
        {kind: images(kind, N_TEST, for_anomalies, fault) for kind, fault in texture.faults.items()},
    )


def _blocks(shape: tuple[int, ...], side: int) -> Tensor:
    """(n,2) middles of the blocks of a picture, left-over edges cut off."""
    rows, columns = (torch.arange(length // side) * side + (side - 1) / 2 for length in shape)
    return torch.cartesian_prod(rows, columns)


def _seen(
    picture: np.ndarray, texture: Texture, fault: Fault, n: int, centres: Tensor, source: torch.Generator
) -> Tensor:
    zoom = texture.zoom * fault.zoom * uniform(*ZOOM, n, source)
    turn = fault.turn + uniform(*TURN, n, source)
    # So far from the middle of its block that an image turned by the most lies within it.
    across = SIDE * texture.zoom * ZOOM[1] * (1 + np.sin(np.deg2rad(TURN[1])))
    margin = (texture.block - across) / 2 - REACH
    chosen = centres[torch.randint(len(centres), (n,), generator=source)]
    middles = chosen + uniform(-margin, margin, (n, 2), source)
    blurred = ndimage.gaussian_filter(picture, fault.blur * texture.zoom) if fault.blur else picture
    sources = torch.from_numpy(blurred).float().expand(n, 1, -1, -1)
    return resample(sources, middles, zoom, turn)


def _brick() -> np.ndarray:
    return pixels_of("brick.png") / 255


def _terrain() -> np.ndarray:
    import matplotlib
    from matplotlib.colors import LightSource

    path = Path(matplotlib.get_data_path()) / "sample_data" / "jacksboro_fault_dem.npz"
    if not path.is_file():
        raise InputError(str(path), "is missing, which the package matplotlib ships", "pip install matplotlib")
    with np.load(path, allow_pickle=False) as arrays:
        heights = arrays["elevation"].astype(np.float64)
    return LightSource(AZIMUTH, ALTITUDE).hillshade(heights, vert_exag=EXAGGERATION)


TEXTURES = {
    "brick": Texture(_brick, 128, 2.0, {"upside_down": Fault(turn=180), "out_of_focus": Fault(blur=0.3)}),
    "terrain": Texture(_terrain, 48, 1.0, {"closer": Fault(zoom=0.8), "out_of_focus": Fault(blur=0.6)}),
}
LOADERS: dict[str, Loader] = {f"{name}{SUFFIX}": load for name in TEXTURES}
