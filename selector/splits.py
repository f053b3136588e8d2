"""The one division of the normal images: fit (training), validation (selection), calibration (decisions)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator

SHARES = (0.70, 0.15, 0.15)
FEWEST_IMAGES = 20  # 14 to train on, 3 to select with, 3 to calibrate with


@dataclass(frozen=True, eq=False)
class Splits:
    """Indices into the normal images, (n,) each, disjoint, in random order."""

    fit: Tensor
    validation: Tensor
    calibration: Tensor


def split(n: int, seed: int) -> Splits:
    """Divide ``n`` normal images 70 / 15 / 15 %, by seed, the same for all candidates.

    Raises InputError for fewer than 20.
    """
    if n < FEWEST_IMAGES:
        raise InputError(
            f"train: {n} images",
            f"at least {FEWEST_IMAGES} are needed (three splits are made of them)",
            "add more normal images",
        )
    held_out = [round(n * share) for share in SHARES[1:]]
    order = torch.randperm(n, generator=generator(seed, "splits"))
    return Splits(*order.split([n - sum(held_out), *held_out]))
