"""Solar cells with generated defects: real normal cells, the defects drawn, so that every pixel's label is exact."""

from pathlib import Path

import torch

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks import elpv
from benchmarks.generators import GENERATORS, SMALLEST_SIDE
from benchmarks.task import Task
from selector import images

SUFFIX = "-generated"


def load(name: str, root: str | Path | None, image_size: int) -> Task:
    """The cells that no expert saw a defect in: train on the same 70% as the task without the suffix; of the rest
    one half is tested as it is, the other half only as defective copies, one by each generator.

    No cell is both a normal test image and the base of a defect, and patches are swapped among bases only.
    masks (k,H,W) uint8; kinds: the generators' names. Raises InputError when the package is not installed, for a
    root, or for an image_size below 32.
    """
    if image_size < SMALLEST_SIDE:
        raise InputError(f"image_size={image_size}", f"must be at least {SMALLEST_SIDE} for {name}", "try 64")
    wafer = name.removesuffix(SUFFIX)
    split = elpv.divide(wafer, root, generator(elpv.SPLIT_SEED, "benchmarks", wafer))
    n_train, n_normal = len(split.train), len(split.held_out) // 2
    chosen = torch.cat([split.train, split.held_out])
    pixels = images.read([split.paths[i] for i in chosen.tolist()], image_size=image_size, role=name).pixels
    train, normal, bases = pixels.tensor_split([n_train, n_train + n_normal])

    tests, masks = [normal], [torch.zeros(len(normal), image_size, image_size, dtype=torch.uint8)]
    kinds = [""] * len(normal)
    for kind, generate in GENERATORS.items():
        defective, mask = generate(bases, bases.roll(1, 0), generator(elpv.SPLIT_SEED, "benchmarks", name, kind))
        tests.append(defective)
        masks.append(mask)
        kinds += [kind] * len(bases)
    order = elpv.shuffled(torch.arange(len(kinds)), generator(elpv.SPLIT_SEED, "benchmarks", name, "order"))
    shuffled_kinds = tuple(kinds[i] for i in order.tolist())
    labels = torch.tensor([kind != "" for kind in shuffled_kinds]).to(torch.uint8)
    return Task(name, train, torch.cat(tests)[order], labels, torch.cat(masks)[order], shuffled_kinds)
