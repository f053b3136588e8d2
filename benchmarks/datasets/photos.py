"""Tiles of photos that packages ship, with drawn defects.

Of scikit-image (BSD; the photos' own sources are in its data folder): brick, grass, gravel, gray textures; ihc, stained
tissue, and hubble, the deep field of the space telescope, both in colour; page and text, printed and written; coins on
a tray; cat, fur and a face in colour. Of Debian packages, in colour: leaf, the ribs of a leaf, and wood, weathered
boards, of mate-backgrounds (GPL-2 or later: Andrea Cimitan and Lennart Poettering; Jean-François Fortin Tam); ground,
five sorts of bare ground, of extremetuxracer-data (GPL-2 or later: the Extreme Tux Racer team).
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.datasets.generated import check_size, with_defects
from benchmarks.tasks.task import SHIFTED, SPLIT_SEED, Loader, Task
from selector.inputs import reader

TILE = 32  # px of the photo; tiles do not overlap
TRAIN_SHARE = 0.6


class Package(NamedTuple):
    """A Debian package of photos: its name and the folder that it installs them to."""

    name: str
    folder: Path


MATE = Package("mate-backgrounds", Path("/usr/share/backgrounds/mate/nature"))
TUX_RACER = Package("extremetuxracer-data", Path("/usr/share/games/etr/terrains"))


class Photo(NamedTuple):
    """What tiles are cut of: files of one package, None: scikit-image, and the side of a tile, px of the photo."""

    files: tuple[str, ...]
    side: int = TILE
    package: Package | None = None


PHOTOS: Mapping[str, Photo] = {
    "brick": Photo(("brick.png",)),
    "grass": Photo(("grass.png",)),
    "gravel": Photo(("gravel.png",)),
    "ihc": Photo(("ihc.png",)),
    # Galaxies are larger than the grain of the other photos, and the sky between them is empty.
    "hubble": Photo(("hubble_deep_field.jpg",), side=48),
    # Small photos, of which 32 px would leave too few tiles.
    "page": Photo(("page.png",), side=20),
    "text": Photo(("text.png",), side=20),
    "coins": Photo(("coins.png",), side=24),
    "cat": Photo(("chelsea.png",), side=24),
    "leaf": Photo(("Blinds.jpg",), side=128, package=MATE),
    "wood": Photo(("Wood.jpg",), side=128, package=MATE),
    "ground": Photo(("dirt01.png", "mud01.png", "pebbles04.png", "rock07.png", "sand01.png"), package=TUX_RACER),
}
# A release of Debian may replace a picture, and results would change without a word.
SHA256 = {
    "Blinds.jpg": "f7aac0dcc2e06d0491643e84df3da1d9db7c4610f58806a880d56e074799f600",
    "Wood.jpg": "19c78500ac00a622e19907ab9cc7d06d46fe08c4a6142759a84195696150ec07",
    "dirt01.png": "7874fb10028c4c1e808d1fff5a82aadb8933c435fde0c3568cc9aabdc8b0e203",
    "mud01.png": "f7749489f26ffea96abfa046aa43a9cc12b6b550e5791c62f2ca67640d334450",
    "pebbles04.png": "595240277a60207b1c2a9a72e912a8ac5d7c665a034d1ecf20d0ba0548cae42e",
    "rock07.png": "ad522d268ff3271adc99077ea089eb7acdbf0a4c7d4e14638700506e84302fab",
    "sand01.png": "d99f7006c87aa8bccde980fca35d77b966b62161571ce23697221d8b97f1553a",
}


def load(name: str, root: str | Path | None, image_size: int) -> Task:
    """Tiles of photos, divided at random: train on 60%, test on the rest ``with_defects``.

    With the suffix ``-shifted`` the train tiles are those from the top of the photo, so that neither they nor what is
    held out of them resemble the normal test tiles from its bottom, as where a lamp or a lot has changed.
    Raises InputError where the package is not installed or ships another picture, for a root, or for an image_size
    below 32.
    """
    check_size(name, image_size)
    photo = PHOTOS[name.removesuffix(SHIFTED)]
    if root is not None:
        package = photo.package.name if photo.package else "scikit-image"
        raise InputError(f"root={str(root)!r}", f"{name} comes with the package {package}", "leave root out")
    tiles = torch.cat([cut(pixels_of(file, photo.package), photo.side) for file in photo.files])
    pixels = reader.read_images(tiles, image_size=image_size, role=name).pixels
    n_train = round(TRAIN_SHARE * len(pixels))
    order = torch.randperm(len(pixels), generator=generator(SPLIT_SEED, "benchmarks", name))
    if name.endswith(SHIFTED):  # tiles lie in rows from the top: the first are trained on, each part in random order
        order = torch.cat([order[order < n_train], order[order >= n_train]])
    return with_defects(name, *pixels[order].tensor_split([n_train]))


LOADERS: dict[str, Loader] = dict.fromkeys(
    [*PHOTOS, *(f"{photo}{SHIFTED}" for photo in ("brick", "grass", "ihc"))], load
)


def cut(photo: np.ndarray, side: int) -> Tensor:
    """(H,W) or (H,W,3) uint8 to non-overlapping tiles (n,C,side,side), row by row; left-over edges are cut off."""
    channels = torch.from_numpy(np.atleast_3d(photo).copy()).movedim(2, 0)
    rows, columns = (length // side for length in channels.shape[1:])
    whole = channels[:, : rows * side, : columns * side]
    return whole.unflatten(1, (rows, side)).unflatten(3, (columns, side)).permute(1, 3, 0, 2, 4).flatten(0, 1)


def pixels_of(file: str, package: Package | None = None) -> np.ndarray:
    """A photo of a package, (H,W) or (H,W,3) uint8. Raises InputError where it is not installed."""
    from PIL import Image

    with Image.open(_path(file, package)) as image:
        return np.asarray(image)


def _path(file: str, package: Package | None) -> Path:
    if package is None:
        return skimage_data() / file
    path = package.folder / file
    if not path.is_file():
        raise InputError(str(path), f"comes with Debian's package {package.name}", f"apt-get install {package.name}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[file]:
        rule = f"is not the picture of {package.name} that the benchmarks were made of"
        raise InputError(str(path), rule, f"install {package.name} of Debian 12")
    return path


def skimage_data() -> Path:
    """The folder of the images that scikit-image ships; raises InputError where it is not installed."""
    try:
        import skimage
    except ModuleNotFoundError as error:
        raise InputError("the photos", "need the package scikit-image", "pip install 'ssad[benchmarks]'") from error
    return Path(skimage.__file__).parent / "data"
