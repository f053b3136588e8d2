"""One image file to one float tensor, keeping the range that the file's own bit depth gives it."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

# Listed one by one, so that no file can reach Pillow's other readers: the one for EPS starts a program.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM")
SMALLEST_SIDE = 2
# Float32 rounding of a value that was meant to be 0 or 1 is not a wrong range.
RANGE_TOLERANCE = 1e-6
# 12 bits of camera data in a file that says 16 fill a sixteenth of its range.
DARK = 1 / 16

TRANSPARENT = "with transparency, laid over white"
FRAMES = "of several frames or pages, only the first read"
REDUCED = "of 16 bits per channel, read at 8"
DIM = "with values in the lowest sixteenth of the file's bit depth, so nearly black"

_INTEGER_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_GRAY_MODES = ("1", "L", "LA", "La", "F", *_INTEGER_MODES)
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2


class UnreadableError(Exception):
    """A file that cannot be decoded; the text is the reason, for the user to read."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """One decoded file.

    Attributes:
        pixels: (1 or 3, H, W), float32 in [0, 1], after EXIF orientation.
        remarks: What was done to the file, or seems wrong with it.
    """

    pixels: Tensor
    remarks: tuple[str, ...]


def decode(path: str | os.PathLike[str]) -> Decoded:
    """Decode one file, whatever its mode and bit depth; its content decides, not its suffix.

    Args:
        path: The file.

    Returns:
        Pixels (C, H, W), where C is 1 for gray files and 3 for all others, with remarks.

    Raises:
        UnreadableError: The file cannot be decoded; the text is the reason.
    """
    with _opened(path) as image:
        remarks = [FRAMES] if getattr(image, "is_animated", False) else []
        # The raw layout is known only before loading; Pillow has no colour mode of more than 8 bits.
        if image.mode not in _GRAY_MODES and ";16" in str(getattr(image, "tile", "")):
            remarks.append(REDUCED)
        ImageOps.exif_transpose(image, in_place=True)
        if min(image.size) < SMALLEST_SIDE:
            height, width = image.height, image.width
            raise UnreadableError(f"{height} x {width}: smaller than {SMALLEST_SIDE} pixels on a side")
        pixels, more = _pixels(image)
        return Decoded(pixels.clamp_(0, 1), (*remarks, *more))


def is_gray(path: str | os.PathLike[str]) -> bool:
    """Whether a file is gray according to its header, which is all that is read.

    Raises:
        UnreadableError: The file cannot be decoded; the text is the reason.
    """
    with _opened(path) as image:
        return image.mode in _GRAY_MODES


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableError("a folder, not an image")
        # Opening a pipe would wait forever.
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("not a regular file")
        if status.st_size == 0:
            raise UnreadableError("an empty file")
        # A stream, because Pillow maps a file that it is given by name into memory, and then scrambles
        # gray TIFFs whose orientation swaps height and width.
        with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as image:
            yield image
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError("not an image, or of a kind that cannot be read") from error
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    # Damaged content makes Pillow's readers raise nearly anything (SyntaxError, struct.error, ...).
    except Exception as error:
        raise UnreadableError(str(error) or type(error).__name__) from error


def _pixels(image: Image.Image) -> tuple[Tensor, list[str]]:
    if image.mode == "F":
        return _from_float(image), []
    if image.mode in _INTEGER_MODES:
        return _from_integers(image)
    gray = image.mode in _GRAY_MODES
    if not image.has_transparency_data:
        return _from_bytes(image.convert("L" if gray else "RGB")), []
    values = _from_bytes(image.convert("LA" if gray else "RGBA"))
    colour, alpha = values[:-1], values[-1:]
    remarks = [TRANSPARENT] if bool((alpha < 1).any()) else []
    return colour * alpha + (1 - alpha), remarks


def _from_bytes(image: Image.Image) -> Tensor:
    values = torch.from_numpy(np.array(image))
    values = values.unsqueeze(-1) if values.ndim == 2 else values
    # One memory layout for all, so that a file and an array of the same values are resized alike.
    return values.permute(2, 0, 1).contiguous().float() / 255


def _from_float(image: Image.Image) -> Tensor:
    values = np.array(image, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise UnreadableError("float values that are not finite (NaN or infinity)")
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise UnreadableError(f"float values outside [0, 1] ({low:g} to {high:g})")
    return torch.from_numpy(values).unsqueeze(0)


def _from_integers(image: Image.Image) -> tuple[Tensor, list[str]]:
    values = np.asarray(image)
    # Pillow widens all 16-bit files that are not TIFF to the full 16 bits, in mode I too.
    bits, inverted, signed = 16, False, False
    if image.format == "TIFF":
        bits = _tiff_tag(image, _TIFF_BITS) or bits
        inverted = _tiff_tag(image, _TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO
        signed = _tiff_tag(image, _TIFF_SAMPLE_FORMAT) == _SIGNED
    if values.dtype.kind == "i" and bits == 32 and not signed:
        values = values.view(np.uint32)
    if values.min() < 0:
        raise UnreadableError(f"negative values ({values.min()})")
    scaled = values.astype(np.float64) / (2 ** (bits - 1) - 1 if signed else 2**bits - 1)
    if scaled.max() > 1:
        raise UnreadableError(f"values up to {values.max()}, more than the {bits} bits the file declares")
    if inverted:
        scaled = 1 - scaled
    remarks = [DIM] if scaled.max() <= DARK else []
    # A PNG may name one gray value that stands for "nothing here".
    transparent = values == image.info.get("transparency", -1)
    if transparent.any():
        scaled[transparent] = 1
        remarks.append(TRANSPARENT)
    return torch.from_numpy(scaled.astype(np.float32)).unsqueeze(0), remarks


def _tiff_tag(image: Image.Image, tag: int) -> int | None:
    value = getattr(image, "tag_v2", {}).get(tag)
    return value[0] if isinstance(value, tuple) else value
