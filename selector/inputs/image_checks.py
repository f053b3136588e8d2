"""Properties of the images that cast doubt on the answer: found before training and reported, never corrected."""

import torch

from augmentations.errors import InputError, first_few
from selector.inputs.digests import image_digest
from selector.inputs.reader import Images
from selector.inputs.splits import Splits

# Interquartile ranges beyond a quartile: what is "far out" in Tukey, Exploratory Data Analysis, 1977.
FAR_OUT = 3.0
# Of brightness in [0, 1]: under one lamp train images are so alike that a defect alone would seem far out.
LEAST_RANGE = 0.02
SIZE_FACTOR = 2.0  # of the longest or shortest side of a train image: beyond it, resizing shows things at another scale


def warnings(train: Images, test: Images) -> list[str]:
    """What is suspicious about the test images, given the train images, in sentences without a full stop.

    Looks for images that are identical to a train image, and for sizes and brightness unlike those of train images.
    """
    return [*_identical(train, test), *_sizes(train, test), *_brightness(train, test)]


def duplicates_across_splits(train: Images, splits: Splits) -> list[str]:
    """Which train images are identical to one of another split, so that a held-out image was trained on."""
    split_of = torch.zeros(len(train), dtype=torch.long)
    for number, rows in enumerate((splits.train, splits.validation, splits.calibration)):
        split_of[rows] = number
    first: dict[str, int] = {}
    pairs = []
    for row, digest in enumerate(map(image_digest, train.pixels)):
        other = first.setdefault(digest, row)
        if split_of[other] != split_of[row]:
            pairs.append(f"{train.names[row]} = {train.names[other]}")
    problem = "identical to one of another split (training, selection, calibration); groups can keep them together"
    return [f"train: {_count(pairs)} {problem}: {first_few(pairs)}"] if pairs else []


def _identical(train: Images, test: Images) -> list[str]:
    names = dict(zip(map(image_digest, train.pixels), train.names, strict=True))
    pairs = [
        f"{name} = {names[digest]}"
        for digest, name in zip(map(image_digest, test.pixels), test.names, strict=True)
        if digest in names
    ]
    return [f"test: {_count(pairs)} identical to a train image as read: {first_few(pairs)}"] if pairs else []


def _sizes(train: Images, test: Images) -> list[str]:
    sides = [side for size in train.sizes for side in size]
    low, high = min(sides) / SIZE_FACTOR, max(sides) * SIZE_FACTOR
    odd = [
        f"{n} ({h} x {w})"
        for n, (h, w) in zip(test.names, test.sizes, strict=True)
        if min(h, w) < low or max(h, w) > high
    ]
    problem = f"far from the train images' size (sides of {min(sides)} to {max(sides)} pixels)"
    return [f"test: {_count(odd)} {problem}: {first_few(odd)}"] if odd else []


def _brightness(train: Images, test: Images) -> list[str]:
    known, new = (images.pixels.double().flatten(1).mean(1) for images in (train, test))
    quartiles = torch.quantile(known, torch.tensor([0.25, 0.75], dtype=known.dtype))
    fence = FAR_OUT * max((quartiles[1] - quartiles[0]).item(), LEAST_RANGE)
    low, high = quartiles[0].item() - fence, quartiles[1].item() + fence
    odd = [f"{n} ({b:.2f})" for n, b in zip(test.names, new.tolist(), strict=True) if not low <= b <= high]
    problem = f"far from the train images' mean brightness ({low:.2f} to {high:.2f} would be usual)"
    return [f"test: {_count(odd)} {problem}: {first_few(odd)}"] if odd else []


def _count(images: list[str]) -> str:
    return "1 image is" if len(images) == 1 else f"{len(images)} images are"


def require_pictures(train: Images) -> None:
    """Refuse train images that no detector can learn from, naming what the reader noticed.

    Raises:
        InputError: Each image is of one single value, or all images are the same.
    """
    values = train.pixels.flatten(1)
    if bool((values.amin(1) == values.amax(1)).all()):
        rule = "are each of one single value: there is nothing to learn from"
    elif bool((values == values[:1]).all()):
        rule = f"are all identical (as {train.names[0]}): there is nothing to compare them by"
    else:
        return
    noticed = f" (the reader noticed: {'; '.join(train.notes)})" if train.notes else ""
    raise InputError(
        f"train: all {len(train)} images", rule + noticed, "look at some of the files, and save them again"
    )
