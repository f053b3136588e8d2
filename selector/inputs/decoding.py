"""One image file to one float tensor, keeping the range that the file's own bit depth gives it."""

import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from torch import Tensor

from selector.inputs import containers, tiff
from selector.inputs.containers import PNG_SIGNATURE, Container, orientation_of
from selector.inputs.raster import FRAMES, REDUCED, Raster
from selector.inputs.unreadable import UnreadableError, describe_kind

SMALLEST_SIDE = 2
# Megapixels of 4 bytes that a file may hold: what is decoded takes up to 1.2 GB, one large file at a time.
LARGEST = 300
LARGEST_VARIABLE = "SSAD_MAX_MEGAPIXELS"
_LARGE_BYTES = 2**26  # decoded; of larger ones one is in memory at a time
_large = threading.Lock()

_INTEGER_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_GRAY_MODES = ("1", "L", "LA", "La", "F", *_INTEGER_MODES)
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_PNG_COLOUR_TYPE, _PNG_GRAY = 25, (0, 4)
# Named one by one, so that no file can reach Pillow's other readers: the one for EPS starts a program.
_OTHERS: dict[str, Callable[[IO[bytes], str], Image.Image]] = {
    "BMP": BmpImagePlugin.BmpImageFile,
    "DIB": BmpImagePlugin.DibImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}


@dataclass(frozen=True, eq=False)
class Decoded:
    """One decoded file.

    Attributes:
        pixels: (1 or 3, H, W), float32 in [0, 1], upright.
        remarks: What was done to the file, or seems wrong with it.
        size: Height and width of the picture, upright, before any resizing.
        bits: Per sample of the file.
    """

    pixels: Tensor
    remarks: tuple[str, ...]
    size: tuple[int, int]
    bits: int


def decode(path: str | os.PathLike[str], image_size: int | None = None) -> Decoded:
    """Decode one file, whatever its mode and bit depth; its content decides, not its suffix.

    Args:
        path: The file.
        image_size: Height and width that the picture is resized to; None: it keeps its own.

    Returns:
        Pixels (C, H, W), where C is 1 for gray files and 3 for all others, with remarks.

    Raises:
        UnreadableError: The file cannot be decoded; the text is the reason.
    """
    with _opened(path) as stream, _one_large_at_a_time() as check_size:
        raster = _raster(stream, check_size).checked()
        height, width = raster.values.shape[:2]
        if min(height, width) < SMALLEST_SIDE:
            raise UnreadableError(f"{height} x {width}: smaller than {SMALLEST_SIDE} pixels on a side")
        pixels = raster.pixels() if image_size is None else raster.resized(image_size)
        return Decoded(pixels, raster.remarks, (height, width), raster.bits)


def is_gray(path: str | os.PathLike[str]) -> bool:
    """Whether a file is gray according to its header.

    Raises:
        UnreadableError: The file cannot be decoded; the text is the reason.
    """
    with _opened(path) as stream:
        start = _peek(stream)
        if start.startswith(tiff.FIRST_BYTES):
            return tiff.is_gray(stream)
        if start.startswith(PNG_SIGNATURE) and len(start) > _PNG_COLOUR_TYPE:
            return start[_PNG_COLOUR_TYPE] in _PNG_GRAY
        with _picture(stream)[0] as image:
            return image.mode in _GRAY_MODES


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableError("a folder, not an image")
        # Opening a pipe would wait forever.
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("not a regular file")
        if status.st_size == 0:
            raise UnreadableError("an empty file")
        with open(path, "rb") as stream:
            yield stream
    except UnreadableError:
        raise
    except OSError as error:
        raise UnreadableError(error.strerror or f"damaged: {error}") from error
    except MemoryError as error:
        raise UnreadableError("more memory is needed to decode it than there is: cut or shrink it") from error
    # Damaged content makes the libraries' readers raise nearly anything (SyntaxError, struct.error, ...).
    except Exception as error:
        raise UnreadableError(f"damaged: {error or type(error).__name__}") from error


class _SizeCheck:
    """Refuses too large a picture before it is decoded, and lets one of those that are large be decoded at a time."""

    def __init__(self) -> None:
        self.has_lock = False

    def __call__(self, height: int, width: int, bytes_per_pixel: int) -> None:
        megapixels = height * width * max(1, bytes_per_pixel / 4) / 1e6
        limit = _largest()
        if megapixels > limit:
            counted = "" if bytes_per_pixel <= 4 else f" of {bytes_per_pixel} bytes, which count as {megapixels:,.0f},"
            raise UnreadableError(
                f"{height} x {width} pixels, {height * width / 1e6:,.0f} megapixels,{counted} where at most {limit:,g} "
                f"are read: cut it into tiles, or set the environment variable {LARGEST_VARIABLE} to a larger number"
            )
        if height * width * bytes_per_pixel > _LARGE_BYTES and not self.has_lock:
            _large.acquire()
            self.has_lock = True


@contextmanager
def _one_large_at_a_time() -> Iterator[_SizeCheck]:
    check = _SizeCheck()
    try:
        yield check
    finally:
        if check.has_lock:
            _large.release()


def _largest() -> float:
    stated = os.environ.get(LARGEST_VARIABLE, "")
    if not stated:
        return LARGEST
    try:
        value = float(stated)
    except ValueError:
        value = -1
    if not value > 0:
        raise UnreadableError(f"the environment variable {LARGEST_VARIABLE}={stated!r} is not a number above 0")
    return value


def _peek(stream: IO[bytes]) -> bytes:
    start = stream.read(512)
    stream.seek(0)
    return start


def _raster(stream: IO[bytes], check_size: _SizeCheck) -> Raster:
    if _peek(stream).startswith(tiff.FIRST_BYTES):
        raster = tiff.read(stream, check_size)
        if raster is not None:
            return raster
        stream.seek(0)
        frames = (FRAMES,) if tiff.has_frames(stream) else ()
        stream.seek(0)
        with TiffImagePlugin.TiffImageFile(stream, "") as page:
            return replace(_from_pillow(page), remarks=frames)  # which Pillow turned upright
    image, container = _picture(stream)
    with image:
        check_size(image.height, image.width, len(image.getbands()))
        remarks = [FRAMES] if container.has_frames or getattr(image, "is_animated", False) else []
        # The raw layout is known only before loading; Pillow has no colour mode of more than 8 bits.
        is_reduced = image.mode not in _GRAY_MODES and _is_deep(image)
        remarks += [REDUCED] * is_reduced
        orientation = container.orientation
        if orientation == 1:
            orientation = orientation_of(image.info.get("exif", b""), image.info.get("xmp", b""))
        raster = replace(_from_pillow(image), remarks=tuple(remarks), orientation=orientation)
        return replace(raster, bits=16) if is_reduced else raster


def _picture(stream: IO[bytes]) -> tuple[Image.Image, Container]:
    """The file as Pillow reads it, nothing decoded.

    The readers are called themselves, because Image.open refuses a large picture by a limit of its own.
    """
    start = _peek(stream)
    if start.startswith(PNG_SIGNATURE):
        container = containers.read_png(stream.read())
        return PngImagePlugin.PngImageFile(io.BytesIO(container.content), ""), container
    if start.startswith(_JPEG_SIGNATURE):
        container = containers.read_jpeg(stream.read())
        return JpegImagePlugin.JpegImageFile(io.BytesIO(container.content), ""), container
    for name, reader in _OTHERS.items():
        accept = Image.OPEN[name][1]
        if accept is None or accept(start[:16]) is True:
            return reader(stream, ""), Container(b"")
    raise UnreadableError(describe_kind(start))


def _is_deep(image: Image.Image) -> bool:
    layout = getattr(image, "tile", "")
    if image.format == "PPM" and layout:  # whose readers are given the largest value
        arguments = layout[0][3]
        return isinstance(arguments, tuple) and isinstance(arguments[-1], int) and arguments[-1] > 255
    return ";16" in str(layout)


def _from_pillow(image: Image.Image) -> Raster:
    if image.mode == "F":
        return Raster(np.array(image, dtype=np.float32)[..., None], bits=32, is_float=True)
    if image.mode in _INTEGER_MODES:
        # Pillow widens files of 16 bits to the full 16 bits, in mode I too.
        return Raster(np.asarray(image)[..., None], 65535.0, 16, transparent=image.info.get("transparency"))
    gray = image.mode in _GRAY_MODES
    if not image.has_transparency_data:
        values = np.array(image.convert("L" if gray else "RGB"))
        return Raster(values if values.ndim == 3 else values[..., None])
    return Raster(np.array(image.convert("LA" if gray else "RGBA")), has_alpha=True)
