"""Properties of the images that cast doubt on the answer: found before training and reported, never corrected."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from augmentations.errors import InputError, first_few
from selector.inputs.digests import image_digest
from selector.inputs.reader import Images
from selector.inputs.remarks import count_are, summary
from selector.inputs.splits import Splits

# Interquartile ranges beyond a quartile: what is "far out" in Tukey, Exploratory Data Analysis, 1977.
FAR_OUT = 3.0
# Of brightness in [0, 1]: under one lamp train images are so alike that a defect alone would seem far out.
LEAST_RANGE = 0.02
SIZE_FACTOR = 2.0  # of the longest or shortest side of a train image: beyond it, resizing shows things at another scale


@dataclass(frozen=True)
class Profile:
    """What train images are like, to tell other images from them; ``to_json`` belongs to a run.

    Attributes:
        sides: The shortest and the longest side, in pixels.
        bits: Each number of bits per sample that occurs; 0 among them where one is unknown.
        brightness: The first and the third quartile of the images' mean brightness, in [0, 1].
    """

    sides: tuple[int, int]
    bits: tuple[int, ...]
    brightness: tuple[float, float]

    @classmethod
    def of(cls, train: Images) -> Self:
        sides = [side for size in train.sizes for side in size]
        quartiles = torch.quantile(_mean_brightness(train), torch.tensor([0.25, 0.75], dtype=torch.float64)).tolist()
        return cls((min(sides), max(sides)), tuple(sorted(set(train.bits))), (quartiles[0], quartiles[1]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for what is no profile."""
        (least, largest), (low, high) = content["sides"], content["brightness"]
        return cls((int(least), int(largest)), tuple(map(int, content["bits"])), (float(low), float(high)))

    def odd(self, images: Images) -> tuple[tuple[str, ...], ...]:
        """What tells each image from the train images, as ``Images.remarks``: its size, bit depth or brightness."""
        rows = zip(images.sizes, images.bits, _mean_brightness(images).tolist(), strict=True)
        return tuple((*self._size(size), *self._depth(bits), *self._light(mean)) for size, bits, mean in rows)

    def _size(self, size: tuple[int, int]) -> Iterator[str]:
        least, largest = self.sides
        if min(size) < least / SIZE_FACTOR or max(size) > largest * SIZE_FACTOR:
            usual = f"sides of {least} to {largest} pixels"
            yield f"far from the train images' size ({usual}): {size[0]} x {size[1]}"

    def _depth(self, bits: int) -> Iterator[str]:
        if bits and 0 not in self.bits and bits not in self.bits:
            usual = " or ".join(map(str, self.bits))
            yield f"of another bit depth than the train images ({usual} bits): {bits} bits"

    def _light(self, mean: float) -> Iterator[str]:
        fence = FAR_OUT * max(self.brightness[1] - self.brightness[0], LEAST_RANGE)
        low, high = self.brightness[0] - fence, self.brightness[1] + fence
        if not low <= mean <= high:
            usual = f"{low:.2f} to {high:.2f} would be usual"
            yield f"far from the train images' mean brightness ({usual}): {mean:.2f}"


def warnings(train: Images, test: Images) -> list[str]:
    """What is suspicious about the test images, given the train images, in sentences without a full stop.

    Looks for images that are identical to a train image, and for sizes, bit depths and brightness unlike those of
    train images.
    """
    odd = summary(zip(test.names, Profile.of(train).odd(test), strict=True))
    return [*_identical(train, test), *(f"test: {sentence}" for sentence in odd)]


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
    return [f"train: {count_are(pairs)} {problem}: {first_few(pairs)}"] if pairs else []


def _identical(train: Images, test: Images) -> list[str]:
    names = dict(zip(map(image_digest, train.pixels), train.names, strict=True))
    pairs = [
        f"{name} = {names[digest]}"
        for digest, name in zip(map(image_digest, test.pixels), test.names, strict=True)
        if digest in names
    ]
    return [f"test: {count_are(pairs)} identical to a train image as read: {first_few(pairs)}"] if pairs else []


def _mean_brightness(images: Images) -> Tensor:
    return images.pixels.double().flatten(1).mean(1)


def require_pictures(images: Images, role: str) -> None:
    """Refuse images that no detector can learn from, or be chosen by, naming what the reader noticed.

    Args:
        images: As they were read.
        role: What the message calls them.

    Raises:
        InputError: Each image is of one single value, or all images are the same.
    """
    values = images.pixels.flatten(1)
    if bool((values.amin(1) == values.amax(1)).all()):
        rule = "are each of one single value: there is nothing to see in them"
    elif bool((values == values[:1]).all()):
        rule = f"are all identical (as {images.names[0]}): there is nothing to compare them by"
    else:
        return
    noticed = f" (the reader noticed: {'; '.join(images.notes)})" if images.notes else ""
    raise InputError(
        f"{role}: all {len(images)} images", rule + noticed, "look at some of the files, and save them again"
    )
