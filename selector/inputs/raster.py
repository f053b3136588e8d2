"""The values of one picture as its file holds them, and their conversion to floats in [0, 1]."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from selector.inputs.unreadable import UnreadableError

# Float32 rounding of a value that was meant to be 0 or 1 is not a wrong range.
RANGE_TOLERANCE = 1e-6
# 12 bits of camera data in a file that says 16 fill a sixteenth of its range.
DARK = 1 / 16

TRANSPARENT = "transparent in places, laid over white"
INVISIBLE = "invisible by an alpha channel, which is left out"
FRAMES = "of several frames or pages, only the first read"
REDUCED = "of 16 bits per channel, read at 8"
DIM = "in the lowest sixteenth of the file's bit depth, so nearly black"

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

    def checked(self) -> "Raster":
        """The raster turned upright, with remarks. Raises UnreadableError for values that have no place in [0, 1]."""
        upright = replace(self, values=_turned(self.values, self.orientation), orientation=1)
        low, high = float(self.values.min()), float(self.values.max())
        if self.is_float:
            _check_floats(low, high)
        elif low < 0:
            remedy = "save unsigned values, or floats scaled to [0, 1]"
            raise UnreadableError(f"negative values ({low:.0f}): {remedy}")
        elif high > self.top:
            raise UnreadableError(f"values up to {high:.0f}, more than the {self.bits} bits the file declares")
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
            # A mask of zeroes and ones, or an alpha channel never filled in: laid over white, all would be white.
            if float(alpha.max()) <= DARK * full:
                upright = replace(upright, values=upright.values[..., :-1], has_alpha=False)
                remarks.append(INVISIBLE)
            elif float(alpha.min()) < full:
                remarks.append(TRANSPARENT)
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
        return 1 - float(colour.min()) / self.top if self.is_inverted else float(colour.max()) / self.top

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
