"""Tiles of photos that scikit-image ships (BSD; the photos' own sources are in its data folder), with drawn defects.

brick, grass, gravel: gray textures; ihc: stained tissue, hubble: the deep field of the space telescope, both in colour.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.datasets.generated import check_size, with_defects
from benchmarks.tasks.task import SHIFTED, SPLIT_SEED, Loader, Task
from selector.inputs import reader

PHOTOS = {
    "brick": "brick.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "ihc": "ihc.png",
    "hubble": "hubble_deep_field.jpg",
}
TILE = 32  # px of the photo; tiles do not overlap
LARGE_TILE = 48  # px; galaxies are larger than the grain of the other photos, and the sky between them is empty
TRAIN_SHARE = 0.6


def load(name: str, root: str | Path | None, image_size: int) -> Task:
    """Tiles of one photo, divided at random: train on 60%, test on the rest ``with_defects``.

    With the suffix ``-shifted`` the train tiles are those from the top of the photo, so that neither they nor what is
    held out of them resemble the normal test tiles from its bottom, as where a lamp or a lot has changed.
    Raises InputError when scikit-image is not installed, for a root, or for an image_size below 32.
    """
    check_size(name, image_size)
    if root is not None:
        raise InputError(f"root={str(root)!r}", f"{name} comes with the package scikit-image", "leave root out")
    photo = name.removesuffix(SHIFTED)
    tiles = cut(pixels_of(PHOTOS[photo]), LARGE_TILE if photo == "hubble" else TILE)
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


def pixels_of(file: str) -> np.ndarray:
    """A photo of scikit-image, (H,W) or (H,W,3) uint8. Raises InputError when the package is not installed."""
    try:
        import skimage
    except ModuleNotFoundError as error:
        raise InputError("the photos", "need the package scikit-image", "pip install 'ssad[benchmarks]'") from error
    from PIL import Image

    with Image.open(Path(skimage.__file__).parent / "data" / file) as image:
        return np.asarray(image)
