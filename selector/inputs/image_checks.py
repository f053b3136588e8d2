"""What of the images should make a user doubt the answer: found before training, told with it, never mended."""

import hashlib

import torch
from torch import Tensor

from selector.inputs.reader import Images
from selector.inputs.splits import Splits

# Interquartile ranges beyond a quartile: what is "far out" in Tukey, Exploratory Data Analysis, 1977.
FAR_OUT = 3.0
# Of brightness in [0, 1]: under one lamp train images are so alike that a defect alone would seem far out.
LEAST_RANGE = 0.02
SIZE_FACTOR = 2.0  # of the longest or shortest side of a train image: beyond it, resizing shows things at another scale
NAMED = 3


def warnings(train: Images, test: Images) -> list[str]:
    """What is wrong between train and test images: identical ones, and sizes and brightness that training never saw."""
    return [*_identical(train, test), *_sizes(train, test), *_brightness(train, test)]


def straddling(train: Images, splits: Splits) -> list[str]:
    """Train images that are identical to one of another split, so that what is held out was learned."""
    split_of = torch.zeros(len(train), dtype=torch.long)
    for number, rows in enumerate((splits.train, splits.validation, splits.calibration)):
        split_of[rows] = number
    first: dict[bytes, int] = {}
    pairs = []
    for row, digest in enumerate(_digests(train.pixels)):
        other = first.setdefault(digest, row)
        if split_of[other] != split_of[row]:
            pairs.append(f"{train.names[row]} = {train.names[other]}")
    told = "identical to one of another split (training, selection, calibration); groups can keep them together"
    return [f"train: {_count(pairs)} {told}: {_some(pairs)}"] if pairs else []


def _identical(train: Images, test: Images) -> list[str]:
    names = dict(zip(_digests(train.pixels), train.names, strict=True))
    pairs = [
        f"{name} = {names[digest]}"
        for digest, name in zip(_digests(test.pixels), test.names, strict=True)
        if digest in names
    ]
    return [f"test: {_count(pairs)} identical to a train image as read: {_some(pairs)}"] if pairs else []


def _digests(pixels: Tensor) -> list[bytes]:
    return [hashlib.sha256(image.contiguous().numpy().data).digest() for image in pixels]


def _sizes(train: Images, test: Images) -> list[str]:
    sides = [side for size in train.sizes for side in size]
    low, high = min(sides) / SIZE_FACTOR, max(sides) * SIZE_FACTOR
    odd = [
        f"{n} ({h} x {w})"
        for n, (h, w) in zip(test.names, test.sizes, strict=True)
        if min(h, w) < low or max(h, w) > high
    ]
    found = f"far from the train images' size (sides of {min(sides)} to {max(sides)} pixels)"
    return [f"test: {_count(odd)} {found}: {_some(odd)}"] if odd else []


def _brightness(train: Images, test: Images) -> list[str]:
    known, new = (images.pixels.double().flatten(1).mean(1) for images in (train, test))
    quartiles = torch.quantile(known, torch.tensor([0.25, 0.75], dtype=known.dtype))
    fence = FAR_OUT * max((quartiles[1] - quartiles[0]).item(), LEAST_RANGE)
    low, high = quartiles[0].item() - fence, quartiles[1].item() + fence
    odd = [f"{n} ({b:.2f})" for n, b in zip(test.names, new.tolist(), strict=True) if not low <= b <= high]
    found = f"far from the train images' mean brightness ({low:.2f} to {high:.2f} would be usual)"
    return [f"test: {_count(odd)} {found}: {_some(odd)}"] if odd else []


def _count(found: list[str]) -> str:
    return "1 image is" if len(found) == 1 else f"{len(found)} images are"


def _some(found: list[str]) -> str:
    rest = len(found) - NAMED
    return ", ".join(found[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
