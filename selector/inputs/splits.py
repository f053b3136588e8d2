"""The one division of the normal images: train (fitting), validation (selection), calibration (decisions)."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator

SHARES = (0.70, 0.15, 0.15)
FEWEST = (14, 3, 3)  # to train on, to select with, to calibrate with
FEWEST_IMAGES = sum(FEWEST)
FEWEST_GROUPS = len(FEWEST)
USES = ("train on", "select with", "calibrate with")
Groups = Sequence[Hashable] | Callable[[str], Hashable]


@dataclass(frozen=True, eq=False)
class Splits:
    """Indices into the normal images, (n,) each, disjoint, in random order."""

    train: Tensor
    validation: Tensor
    calibration: Tensor


def split(n: int, seed: int, groups: Sequence[int] | None = None) -> Splits:
    """Divide the normal images 70 / 15 / 15 %, the same for all candidates.

    Args:
        n: How many images there are.
        seed: Decides the division.
        groups: One number per image; images of one number stay in one split, and the sizes of the splits are as near
            to the shares as that allows. None: every image is a group of its own.

    Raises:
        InputError: There are fewer than 20 images, or the groups leave a split with too few.
    """
    if n < FEWEST_IMAGES:
        raise InputError(
            f"train: {n} images",
            f"at least {FEWEST_IMAGES} are needed (three splits are made from them)",
            "add more normal images",
        )
    held_out = [round(n * share) for share in SHARES[1:]]
    order = torch.randperm(n, generator=generator(seed, "splits"))
    if groups is None:
        return Splits(*order.split([n - sum(held_out), *held_out]))
    split_of = torch.from_numpy(_assign_groups(np.asarray(groups), held_out, seed))[order]
    return Splits(*(order[split_of == i] for i in range(len(FEWEST))))


def grouped(groups: Groups, names: Sequence[str]) -> list[int]:
    """The number of the group of each image, counted in the order in which groups appear.

    Args:
        groups: One hashable per image, in the order of the names, or a function from name to hashable.
        names: The names of the images.

    Raises:
        InputError: There are more or fewer groups than images, or one is not hashable.
    """
    listed = [groups(name) for name in names] if callable(groups) else groups
    listed = listed.tolist() if hasattr(listed, "tolist") else listed  # an array or a column of a table
    if not isinstance(listed, list | tuple):
        raise InputError(f"groups={groups!r:.80}", "is neither a sequence nor a function", "give one group per image")
    if len(listed) != len(names):
        rule = f"must be one for each of the {len(names)} train images read"
        raise InputError(f"groups: {len(listed)} of them", rule, "or give a function from an image's name to its group")
    numbers: dict[Hashable, int] = {}
    for name, group in zip(names, listed, strict=True):
        try:
            numbers.setdefault(group, len(numbers))
        except TypeError as error:
            raise InputError(
                f"groups: {group!r:.80} of {name}", "is not hashable", "give a string or a number"
            ) from error
    return [numbers[group] for group in listed]


def first_folder(name: str) -> str:
    """The first sub-folder that an image of a folder lies in. Raises InputError where it lies in none."""
    folder, slash, _ = name.partition("/")
    if not slash:
        raise InputError(f"train: {name}", "lies in no sub-folder that could be its group", "move it into one")
    return folder


def _assign_groups(groups: np.ndarray, wanted: Sequence[int], seed: int) -> np.ndarray:
    """The split of each image: 0 to train on, 1 to select with, 2 to calibrate with; groups stay whole.

    Of all divisions of the groups it takes one that puts as nearly as possible the ``wanted`` numbers of images into
    splits 1 and 2 (least sum of both deviations): a subset sum in two dimensions, by dynamic programming over the
    groups in random order. Taking the largest groups first would be shorter, but neither reaches the nearest shares nor
    lets every group be held out by some seed.
    """
    sizes = np.bincount(groups)
    if len(sizes) < FEWEST_GROUPS:
        rule = f"at least {FEWEST_GROUPS} are needed, one for each split"
        raise InputError(f"groups: {len(sizes)} of them", rule, "use finer groups, or none")
    # A best division never exceeds what is wanted by a whole group: without that group it would be nearer.
    shape = tuple(want + int(sizes.max()) + 1 for want in wanted)
    sums = np.indices(shape)
    off = np.abs(sums - np.reshape(wanted, (2, 1, 1))).sum(0)
    big_enough = (sums[0] >= FEWEST[1]) & (sums[1] >= FEWEST[2]) & (sums.sum(0) <= len(groups) - FEWEST[0])
    order = torch.randperm(len(sizes), generator=generator(seed, "groups")).tolist()
    step = np.full(
        shape, -1
    )  # that first reached a pair of sums: 2 * the place of the group in the order + its split - 1
    step[0, 0] = 2 * len(order)
    for place, group in enumerate(order):
        size = int(sizes[group])
        reached = step >= 0
        for axis, (source, target) in enumerate([(reached[:-size], step[size:]), (reached[:, :-size], step[:, size:])]):
            target[source & (target < 0)] = 2 * place + axis
        if step[tuple(wanted)] >= 0:
            break
    possible = (step >= 0) & big_enough
    if not possible.any():
        thing = f"groups: {len(sizes)}, the largest of {sizes.max()} images"
        needed = ", ".join(f"{least} images to {use}" for least, use in zip(FEWEST, USES, strict=True))
        raise InputError(thing, f"no way to divide them leaves {needed}", "use finer groups, or none")
    split_of = np.zeros(len(sizes), dtype=int)
    left = list(map(int, np.unravel_index(np.where(possible, off, off.max() + 1).argmin(), shape)))
    while any(left):
        place, axis = divmod(int(step[tuple(left)]), 2)
        split_of[order[place]] = 1 + axis
        left[axis] -= int(sizes[order[place]])
    return split_of[groups]
