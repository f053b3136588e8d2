"""The values of one picture as its file holds them, and their conversion to floats in [0, 1]."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from detectors.images import RANGE_TOLERANCE
from selector.inputs.unreadable import UnreadableError

# 12 bits of camera data in a file that says 16 fill a sixteenth of its range.
DARK = 1 / 16

TRANSPARENT = "transparent in places, laid over white"
INVISIBLE = "invisible by an alpha channel, which is left out"
FRAMES = "of several frames or pages, only the first read"
MASK = "with a mask of what is not there, left out"
BEHIND = "followed by other data in their files, left out"
REDUCED = "of 16 bits per channel, read at 8"
DIM = "in the lowest sixteenth of the file's bit depth, so nearly black"

FINE = 4  # times the wanted height and width are kept of a large picture, which resizing then averages
_TURNED = 5  # orientations from here on exchange height and width
_ROWS = 256  # of a part converted to floats at a time
_BAND = 2**24  # values converted to floats at a time where the result is small


@dataclass(frozen=True, eq=False)
class Raster:
    """One picture as stored.

    Attributes:
        values: (H, W, S): gray or red, green, blue, then alpha where there is one.
        top: The value that is full brightness; not used for floats.
        bits: Per sample.
        is_float: Values are in [0, 1] already.
        is_inverted: Zero is white.
        has_alpha: Whether the last sample is alpha.
        is_premultiplied: Colours are multiplied by alpha already.
        transparent: The gray value that stands for "nothing here".
        orientation: As in EXIF, 1 (as stored) to 8.
        remarks: What was done to the file already.
        size: Height and width of the picture as stored, where ``values`` are the means of blocks of it.
        extremes: Its lowest and its highest value, where they are.
    """

    values: np.ndarray
    top: float = 255.0
    bits: int = 8
    is_float: bool = False
    is_inverted: bool = False
    has_alpha: bool = False
    is_premultiplied: bool = False
    transparent: int | None = None
    orientation: int = 1
    remarks: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    extremes: tuple[float, float] | None = None

    def checked(self) -> "Raster":
        """The raster turned upright, with remarks. Raises UnreadableError for values that have no place in [0, 1]."""
        size = self.size or self.values.shape[:2]
        size = size[::-1] if self.orientation >= _TURNED else size
        upright = replace(self, values=_turned(self.values, self.orientation), orientation=1, size=size)
        low, high = self.extremes or (float(self.values.min()), float(self.values.max()))
        if self.is_float:
            _check_floats(low, high)
        elif low < 0:
            remedy = "save unsigned values, or floats scaled to [0, 1]"
            raise UnreadableError(f"negative values ({low:.0f}): {remedy}")
        elif high > self.top:
            raise UnreadableError(f"values up to {high:.0f}, more than the {self.top:.0f} that the file declares")
        remarks = list(self.remarks)
        if not self.is_float and self.bits > 8 and self._brightest() <= DARK:
            remarks.append(DIM)
        if self.transparent is not None:
            absent = self.values == self.transparent
            if absent.all():
                upright = replace(upright, transparent=None)
                remarks.append(INVISIBLE)
            elif absent.any():
                remarks.append(TRANSPARENT)
        if self.has_alpha:
            alpha = self.values[..., -1]
            full = 1.0 if self.is_float else self.top
            said = alpha_remarks(float(alpha.min()) / full, float(alpha.max()) / full)
            if INVISIBLE in said:
                upright = replace(upright, values=upright.values[..., :-1], has_alpha=False)
            remarks += said
        return replace(upright, remarks=tuple(remarks))

    def pixels(self, rows: slice = slice(None)) -> Tensor:
        """Rows of the picture as (1 or 3, h, W), float32 in [0, 1], contiguous."""
        values = self.values[rows]
        floats = torch.from_numpy(self._scaled(values)).permute(2, 0, 1).contiguous()
        if self.has_alpha:
            colour, alpha = floats[:-1], floats[-1:]
            floats = (colour if self.is_premultiplied else colour * alpha) + (1 - alpha)
        if self.transparent is not None:
            floats[:, torch.from_numpy((values == self.transparent)[..., 0])] = 1
        return floats.clamp_(0, 1)

    def resized(self, image_size: int) -> Tensor:
        """The picture as (1 or 3, S, S), by bilinear interpolation with antialiasing.

        Widths are resized before heights, in bands of rows, so that a large picture is never in memory as floats.
        """
        height, width = self.values.shape[:2]
        if self.values.size <= _BAND:
            return resize(self.pixels()[None], image_size)[0]
        step = max(1, _BAND // (width * self.values.shape[2]))
        bands = []
        for start in range(0, height, step):
            band = self.pixels(slice(start, start + step))[None]
            bands.append(_interpolate(band, (band.shape[2], image_size)))
        return _interpolate(torch.cat(bands, dim=2), (image_size, image_size))[0].clamp_(0, 1)

    def _brightest(self) -> float:
        colour = self.values[..., :-1] if self.has_alpha else self.values
        low, high = self.extremes or (float(colour.min()), float(colour.max()))
        return 1 - low / self.top if self.is_inverted else high / self.top

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        values = np.ascontiguousarray(values)
        if values.dtype == np.uint8 and self.top == 255:
            floats = values.astype(np.float32) / np.float32(255)
        else:
            floats = values.astype(np.float64) / (1.0 if self.is_float else self.top)
        if self.is_inverted:
            colours = slice(None, -1) if self.has_alpha else slice(None)
            floats[..., colours] = 1 - floats[..., colours]
        return floats.astype(np.float32, copy=False)


def alpha_remarks(low: float, high: float) -> tuple[str, ...]:
    """What is to be said of an alpha channel by its lowest and highest value, in [0, 1].

    A mask of zeroes and ones, or a channel that was never filled in, would make the whole picture white.
    """
    return (INVISIBLE,) if high <= DARK else (TRANSPARENT,) if low < 1 else ()


class BlockMeans:
    """A large picture, given part by part, as the means of its blocks of pixels.

    Args:
        size: Height and width of the picture.
        samples: Per pixel.
        wanted: Height and width that the picture is resized to later: at least ``FINE`` times as many are kept.
    """

    def __init__(self, size: tuple[int, int], samples: int, wanted: int) -> None:
        self.size = size
        self._numbers = tuple(_block_numbers(side, FINE * wanted) for side in size)
        self._low, self._high = np.inf, -np.inf
        rows, columns = self._numbers
        self._sums = np.zeros((rows[-1] + 1, columns[-1] + 1, samples))

    def add(self, values: np.ndarray, top: int, left: int, sample: int = 0) -> None:
        """Add the part (h,w,s) of the picture that begins at this row, column and sample."""
        self._low = float(np.minimum(self._low, values.min()))  # which keeps what is not a number
        self._high = float(np.maximum(self._high, values.max()))
        height, width, samples = values.shape
        columns = self._numbers[1][left : left + width]
        for start in range(0, height, _ROWS):
            part = values[start : start + _ROWS].astype(np.float64)
            rows = self._numbers[0][top + start : top + start + len(part)]
            sums = np.add.reduceat(np.add.reduceat(part, _begins(rows), axis=0), _begins(columns), axis=1)
            place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1), slice(sample, sample + samples)
            self._sums[place] += sums

    def raster(self, **properties: Any) -> Raster:
        """What was added, once it is the whole picture; ``properties`` as of ``Raster``."""
        heights, widths = map(np.bincount, self._numbers)
        means = self._sums / (heights[:, None] * widths)[..., None]
        return Raster(means, size=self.size, extremes=(self._low, self._high), **properties)


def _block_numbers(side: int, wanted: int) -> np.ndarray:
    """To which block each row or column belongs: blocks are as alike in size as whole pixels allow."""
    n = side if side < 2 * wanted else wanted
    return np.arange(side) * n // side


def _begins(numbers: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(numbers, prepend=-1))


def resize(pixels: Tensor, image_size: int) -> Tensor:
    """Images (N, C, H, W) as (N, C, S, S), by bilinear interpolation with antialiasing."""
    if pixels.shape[-2:] == (image_size, image_size):
        return pixels
    return _interpolate(pixels, (image_size, image_size)).clamp_(0, 1)


def _interpolate(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)


def _check_floats(low: float, high: float) -> None:
    if not np.isfinite([low, high]).all():
        raise UnreadableError("float values that are not finite (NaN or infinity): replace them, for example by 0")
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        remedy = "scale all images alike to [0, 1], or save them as 8 or 16 bits"
        raise UnreadableError(f"float values outside [0, 1] ({low:g} to {high:g}): {remedy}")


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """The view of values (H, W, S) that an EXIF orientation asks for."""
    match orientation:
        case 2:
            return values[:, ::-1]
        case 3:
            return values[::-1, ::-1]
        case 4:
            return values[::-1]
        case 5:
            return values.transpose(1, 0, 2)
        case 6:
            return np.rot90(values, -1)
        case 7:
            return values[::-1, ::-1].transpose(1, 0, 2)
        case 8:
            return np.rot90(values)
        case _:
            return values
