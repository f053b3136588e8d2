"""Real normal images, and copies of them with defects drawn on, so that every pixel's label is exact."""

from pathlib import Path

import torch
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.datasets import elpv
from benchmarks.datasets.synthetic_defects import GENERATORS, SMALLEST_SIDE
from benchmarks.tasks.task import SPLIT_SEED, Loader, Task
from selector.inputs import reader

SUFFIX = "-generated"


def load(name: str, root: str | Path | None, image_size: int) -> Task:
    """The solar cells that no expert saw a defect in: train on the same 70% as the task without the suffix, test on
    the rest ``with_defects``.

    Raises InputError when the package is not installed, for a root, or for an image_size below 32.
    """
    check_size(name, image_size)
    wafer = name.removesuffix(SUFFIX)
    split = elpv.divide(wafer, root, generator(SPLIT_SEED, "benchmarks", wafer))
    chosen = torch.cat([split.train, split.held_out])
    pixels = reader.read_images([split.paths[i] for i in chosen.tolist()], image_size=image_size, role=name).pixels
    return with_defects(name, *pixels.tensor_split([len(split.train)]))


LOADERS: dict[str, Loader] = {f"{wafer}{SUFFIX}": load for wafer in elpv.WAFERS}


def check_size(name: str, image_size: int) -> None:
    """Raise InputError for images too small to draw defects on."""
    if image_size < SMALLEST_SIDE:
        raise InputError(f"image_size={image_size}", f"must be at least {SMALLEST_SIDE} for {name}", "try 64")


def with_defects(name: str, train: Tensor, held_out: Tensor) -> Task:
    """A task of normal images and of copies of them with drawn defects.

    One half of the held-out images is tested as it is, the other half only as defective copies, one by each generator.
    No image is both a normal test image and the base of a defect, and patches are swapped among bases only; copies on
    which a defect does not show are left out.

    Args:
        name: of the task.
        train: (n,C,S,S), in random order.
        held_out: (k,C,S,S), in random order.

    Returns:
        The task, test images in random order, with masks (k,H,W) uint8; kinds: the generators' names.
    """
    normal, bases = held_out.tensor_split([len(held_out) // 2])
    tests, masks = [normal], [torch.zeros(len(normal), *normal.shape[2:], dtype=torch.uint8)]
    kinds = [""] * len(normal)
    for kind, generate in GENERATORS.items():
        defective, mask = generate(bases, bases.roll(1, 0), generator(SPLIT_SEED, "benchmarks", name, kind))
        shows = (mask == 1).flatten(1).any(1)
        tests.append(defective[shows])
        masks.append(mask[shows])
        kinds += [kind] * int(shows.sum())
    everything = Task(
        name,
        train,
        torch.cat(tests),
        torch.tensor([kind != "" for kind in kinds]).to(torch.uint8),
        torch.cat(masks),
        tuple(kinds),
    )
    order = generator(SPLIT_SEED, "benchmarks", name, "order")
    return everything.with_test(torch.randperm(len(kinds), generator=order))
