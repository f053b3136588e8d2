"""One image file to one float tensor, keeping the range that the file's own bit depth gives it."""

import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
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
    TiffImagePlugin,
    WebPImagePlugin,
)
from torch import Tensor

from selector.inputs import containers, netpbm, tiff
from selector.inputs.containers import JPEG_SIGNATURE, PNG_SIGNATURE, Container, orientation_of
from selector.inputs.limits import SizeCheck, is_large, one_large_at_a_time, resolve_limit
from selector.inputs.raster import BEHIND, FINE, FRAMES, REDUCED, TRANSPARENT, BlockMeans, Raster, alpha_remarks
from selector.inputs.unreadable import UnreadableError, describe_damage, describe_kind

SMALLEST_SIDE = 2
_BAND = 2**20  # pixels converted at a time
_INTEGER_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_SHORT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_BYTE_MODES = ("1", "L", "P", "RGB", "YCbCr", "CMYK", "LA", "RGBA")
_GRAY_MODES = ("1", "L", "LA", "La", "F", *_INTEGER_MODES)
_PNG_COLOUR_TYPE, _PNG_GRAY = 25, (0, 4)
# Named one by one, so that no file can reach Pillow's other readers: the one for EPS starts a program.
_OTHERS: dict[str, Callable[[IO[bytes], str], Image.Image]] = {
    "BMP": BmpImagePlugin.BmpImageFile,
    "DIB": BmpImagePlugin.DibImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
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


def decode(path: str | os.PathLike[str], image_size: int | None = None, max_megapixels: float | None = None) -> Decoded:
    """Decode one file, whatever its mode and bit depth; its content decides, not its suffix.

    Args:
        path: The file.
        image_size: Height and width that the picture is resized to; None: it keeps its own.
        max_megapixels: As for ``selector.inputs.limits.resolve_limit``.

    Returns:
        Pixels (C, H, W), where C is 1 for gray files and 3 for all others, with remarks.

    Raises:
        UnreadableError: The file cannot be decoded; the text is the reason.
        InputError: The limit is no number above 0.
    """
    limit = resolve_limit(max_megapixels)
    with _opened(path) as stream, one_large_at_a_time(limit) as check_size:
        raster = _raster(stream, check_size, image_size).checked()
        height, width = raster.size or raster.values.shape[:2]
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
        if netpbm.is_netpbm(start):
            return netpbm.is_gray(start)
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
        raise UnreadableError(error.strerror or describe_damage(path, error)) from error
    except MemoryError as error:
        raise UnreadableError("more memory is needed to decode it than there is: cut or shrink it") from error
    # Damaged content makes the libraries' readers raise nearly anything (SyntaxError, struct.error, ...).
    except Exception as error:
        raise UnreadableError(describe_damage(path, error)) from error


def _peek(stream: IO[bytes]) -> bytes:
    start = stream.read(512)
    stream.seek(0)
    return start


def _raster(stream: IO[bytes], check_size: SizeCheck, wanted: int | None) -> Raster:
    start = _peek(stream)
    if start.startswith(tiff.FIRST_BYTES):
        raster = tiff.read(stream, check_size, wanted)
        if raster is not None:
            return raster
        stream.seek(0)
        unread = tiff.remarks(stream)
        stream.seek(0)
        with TiffImagePlugin.TiffImageFile(stream, "") as page:
            return replace(_from_pillow(page), remarks=unread)  # which Pillow turned upright
    if netpbm.is_netpbm(start):
        return netpbm.read(stream, check_size)
    image, container = _picture(stream)
    with image:
        size = image.height, image.width
        if wanted is not None:
            _reduce_jpeg(image, wanted)
        is_whole = (image.height, image.width) == size
        check_size(*size, _bytes_per_pixel(image), in_parts=not is_whole)
        if isinstance(image, PngImagePlugin.PngImageFile):
            containers.require_all_rows(container.content)
        has_frames = container.has_frames or getattr(image, "is_animated", False)
        remarks = [FRAMES] if has_frames else [BEHIND] if container.is_followed else []
        # The raw layout is known only before loading; Pillow has no mode of more than 8 bits for several channels.
        is_reduced = image.mode not in _INTEGER_MODES and ";16" in str(getattr(image, "tile", ""))
        remarks += [REDUCED] * is_reduced
        orientation = container.orientation
        if orientation == 1:
            orientation = orientation_of(image.info.get("exif", b""), image.info.get("xmp", b""))
        raster = _in_bands(image, wanted) if wanted is not None else None
        raster = raster or _from_pillow(image)
        raster = replace(raster, remarks=(*remarks, *raster.remarks), orientation=orientation)
        raster = raster if is_whole else replace(raster, size=size)
        return replace(raster, bits=16) if is_reduced else raster


def _bytes_per_pixel(image: Image.Image) -> int:
    """Of Pillow's memory, which has four bytes for a pixel of several channels, and libjpeg's for coefficients."""
    if "progressive" in image.info:
        return 10
    return 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4


def _is_large(image: Image.Image) -> bool:
    return is_large(image.height * image.width * _bytes_per_pixel(image))


def _reduce_jpeg(image: Image.Image, wanted: int) -> None:
    """Let a large JPEG be decoded at a half, a quarter or an eighth of its size; it must be stored in one pass."""
    is_sequential = isinstance(image, JpegImagePlugin.JpegImageFile) and "progressive" not in image.info
    if is_sequential and _is_large(image):
        image.draft(None, (FINE * wanted, FINE * wanted))


def _in_bands(image: Image.Image, wanted: int) -> Raster | None:
    """A large picture as ``BlockMeans``, so that it is in memory but once, laid over white where it is transparent;
    None for others."""
    deep = image.mode in _SHORT_MODES
    if not ((deep and not image.has_transparency_data) or image.mode in _BYTE_MODES) or not _is_large(image):
        return None
    image.load()
    mode = None if deep else "L" if image.mode in _GRAY_MODES else "RGB"
    with_alpha = {"L": "LA", "RGB": "RGBA"}[mode] if mode and image.has_transparency_data else None
    remarks: tuple[str, ...] = ()
    if with_alpha:
        remarks = alpha_remarks(*_extremes(band.convert(with_alpha).getchannel("A") for _, band in _bands(image)))
    means = BlockMeans((image.height, image.width), 3 if mode == "RGB" else 1, wanted)
    for top, band in _bands(image):
        if TRANSPARENT in remarks:
            layers = np.asarray(band.convert(with_alpha)).astype(np.float64)
            values = 255 - (255 - layers[..., :-1]) * (layers[..., -1:] / 255)
        else:
            values = np.asarray(band if mode in (None, band.mode) else band.convert(mode))
        means.add(values.reshape(*values.shape[:2], -1), top, 0)
    depth = {"top": 65535.0, "bits": 16} if deep else {}
    return means.raster(remarks=remarks, **depth)


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    step = max(1, _BAND // image.width)
    for top in range(0, image.height, step):
        yield top, image.crop((0, top, image.width, min(top + step, image.height)))


def _extremes(bands: Iterable[Image.Image]) -> tuple[float, float]:
    """The lowest and the highest value, as fractions of 255."""
    lows, highs = zip(*(np.ravel(band.getextrema()).tolist() for band in bands), strict=True)
    return min(lows) / 255, max(highs) / 255


def _picture(stream: IO[bytes]) -> tuple[Image.Image, Container]:
    """The file as Pillow reads it, nothing decoded.

    The readers are called themselves, because Image.open refuses a large picture by a limit of its own.
    """
    start = _peek(stream)
    if start.startswith(PNG_SIGNATURE):
        container = containers.read_png(stream.read())
        return PngImagePlugin.PngImageFile(io.BytesIO(container.content), ""), container
    if start.startswith(JPEG_SIGNATURE):
        container = containers.read_jpeg(stream.read())
        return JpegImagePlugin.JpegImageFile(io.BytesIO(container.content), ""), container
    for name, reader in _OTHERS.items():
        accept = Image.OPEN[name][1]
        if accept is None or accept(start[:16].ljust(16, b"\0")) is True:
            is_followed = name == "BMP" and containers.is_bmp_followed(stream)
            return reader(stream, ""), Container(b"", is_followed=is_followed)
    raise UnreadableError(describe_kind(start))


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
