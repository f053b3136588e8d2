"""TIFF files: any layout of bits, samples, byte order and planes, read as what it is or refused by name.

tifffile reads gray and colour of every depth. Palettes, inks and other colour spaces are left to Pillow, for the
layouts of at most 8 bits in one plane that it reads right; whatever is in neither set is refused.
"""

import logging
from typing import IO, Any

import tifffile

from selector.inputs.limits import SizeCheck, is_large
from selector.inputs.raster import FRAMES, MASK, BlockMeans, Raster
from selector.inputs.unreadable import UnreadableError

# The library logs each broken tag, which decides nothing here, to standard error.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)

FIRST_BYTES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _INKS, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_SENSOR_DATA = (32803, 34892)
_UNSPECIFIED, _PREMULTIPLIED, _STRAIGHT = 0, 1, 2  # ExtraSamples
_REDUCED_PAGE, _MASK_PAGE = 1, 4  # bits of NewSubfileType
_NEAR = 16  # pages, among which a mask of the first is looked for; a stack may have thousands
# Samples per pixel by which Pillow knows the colour space.
_FOR_PILLOW = {_PALETTE: (1, 2), _INKS: (4,), _YCBCR: (3,), _LAB: (3,)}
_JPEG, _OLD_JPEG, _FAX = 7, 6, (2, 3, 4)
_NEEDS_PILLOW = (_JPEG, _OLD_JPEG, *_FAX)


def is_gray(stream: IO[bytes]) -> bool:
    """Whether a TIFF is gray. Raises UnreadableError for a layout that is not understood."""
    with tifffile.TiffFile(stream) as file:
        return _page(file).photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)


def read(stream: IO[bytes], check_size: SizeCheck, wanted: int | None = None) -> Raster | None:
    """The first page; None where Pillow is to read it, and reads it right.

    Args:
        stream: The file.
        check_size: Raises where the picture is too large.
        wanted: Height and width that the picture is resized to: a large one is read tile by tile, or strip by strip,
            as ``BlockMeans``. None: it is read as a whole.

    Raises:
        UnreadableError: The layout is not understood, or part of the content is missing.
    """
    with tifffile.TiffFile(stream) as file:
        page = _page(file)
        n_samples = page.samplesperpixel
        size, depth = (page.imagelength, page.imagewidth), max(page.bitspersample // 8, 1)
        if page.photometric in _FOR_PILLOW or page.compression in _NEEDS_PILLOW:
            check_size(*size, n_samples * depth)
            _require_pillow_reads(page)
            if page.compression != _OLD_JPEG:  # whose strips are not where the tags say
                _require_whole(file, page)
            return None
        colours = 3 if page.photometric == _RGB else 1
        alpha = _alpha(page, n_samples - colours)
        _require_whole(file, page)
        if page.dtype is None or page.dtype.kind not in "buif" or page.imagedepth != 1:
            raise UnreadableError(f"{_layout(page)}: not a layout that is understood; save it as 8 or 16 bits")
        value_bits = page.bitspersample - (page.sampleformat == _SIGNED)
        properties: dict[str, Any] = {
            "top": 0.0 if page.dtype.kind == "f" else float(2**value_bits - 1),
            "bits": page.bitspersample,
            "is_float": page.dtype.kind == "f",
            "is_inverted": page.photometric == _WHITE_IS_ZERO,
            "has_alpha": alpha is not None,
            "is_premultiplied": alpha == _PREMULTIPLIED,
            "orientation": _orientation(page),
            "remarks": _remarks(file),
        }
        if wanted is not None and alpha is None and _is_in_parts(page) and check_size(*size, n_samples * depth, True):
            return _in_parts(page, size, wanted).raster(**properties)
        check_size(*size, n_samples * depth)
        values = page.asarray(squeeze=False, maxworkers=1)  # (planes, depth, height, width, samples)
        return Raster(values[:, 0].transpose(1, 2, 0, 3).reshape(*size, n_samples), **properties)


def _is_in_parts(page: tifffile.TiffPage) -> bool:
    """Whether no tile or strip is a large part of the page."""
    height, width = page.tilelength or page.rowsperstrip or page.imagelength, page.tilewidth or page.imagewidth
    return not is_large(min(height, page.imagelength) * width * page.samplesperpixel * page.bitspersample / 8)


def _in_parts(page: tifffile.TiffPage, size: tuple[int, int], wanted: int) -> BlockMeans:
    means = BlockMeans(size, page.samplesperpixel, wanted)
    for values, place, shape in page.segments(maxworkers=1):
        if values is None or shape is None:
            raise UnreadableError("truncated: parts of the picture are missing in the TIFF file; copy or save it again")
        sample, _, top, left, band = place
        height, width = min(shape[1], size[0] - top), min(shape[2], size[1] - left)
        means.add(values[0, :height, :width], top, left, sample + band)
    return means


def remarks(stream: IO[bytes]) -> tuple[str, ...]:
    """What of a TIFF is not read: pictures beyond the first, and masks of it."""
    with tifffile.TiffFile(stream) as file:
        return _remarks(file)


def _remarks(file: tifffile.TiffFile) -> tuple[str, ...]:
    return (*([FRAMES] if _has_frames(file) else []), *([MASK] if _has_mask(file) else []))


def _page(file: tifffile.TiffFile) -> tifffile.TiffPage:
    page = file.pages.first
    subfile = page.tags.get(254)
    if subfile is not None and isinstance(subfile.value, int) and subfile.value & _REDUCED_PAGE:
        raise UnreadableError("a preview of another picture comes first: save the full picture as TIFF or PNG")
    if page.photometric in _SENSOR_DATA:
        raise UnreadableError("raw data of a camera's sensor: develop it and save it as TIFF of 16 bits or as PNG")
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise UnreadableError(f"{_layout(page)}: not a compression that is understood; save it uncompressed")
    known = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, *_FOR_PILLOW)
    if page.photometric not in known:
        raise UnreadableError(f"{_layout(page)}: neither gray nor a colour space that is understood; save it as RGB")
    return page


def _layout(page: tifffile.TiffPage) -> str:
    colours = getattr(page.photometric, "name", str(page.photometric)).lower()
    compression = getattr(page.compression, "name", str(page.compression)).lower()
    planes = ", stored plane by plane" if page.planarconfig == 2 and page.samplesperpixel > 1 else ""
    bands = f"{page.samplesperpixel} x {page.bitspersample} bits"
    return f"a TIFF of {bands} ({colours}, compression {compression}{planes})"


def _alpha(page: tifffile.TiffPage, n_extra: int) -> int | None:
    """What ExtraSamples says of the alpha channel, where there is one."""
    if n_extra == 0:
        return None
    stated = page.extrasamples
    if n_extra == 1 and stated and stated[0] in (_PREMULTIPLIED, _STRAIGHT):
        return int(stated[0])
    if n_extra == 1 and not stated and page.photometric == _RGB:
        return _STRAIGHT  # writers of red, green, blue, alpha that leave the tag out
    bands = f"{page.samplesperpixel} bands per pixel"
    remedy = "save those that matter as gray or RGB, each three of them as files of their own"
    raise UnreadableError(f"{bands}, where only gray or RGB, with or without alpha, is understood: {remedy}")


def _require_pillow_reads(page: tifffile.TiffPage) -> None:
    if page.subsampling not in (None, (1, 1)) and page.compression not in (_JPEG, _OLD_JPEG):
        what = "colours of fewer pixels than there are, which is understood of compression JPEG alone"
        raise UnreadableError(f"{_layout(page)}: {what}; save it as RGB")
    samples = {_WHITE_IS_ZERO: (1,), _BLACK_IS_ZERO: (1,), _RGB: (3,)} | _FOR_PILLOW
    in_one_plane = page.planarconfig == 1 or page.samplesperpixel == 1
    is_bytes = page.bitspersample <= 8 and page.sampleformat == _UNSIGNED
    if not (is_bytes and in_one_plane and page.samplesperpixel in samples[page.photometric]):
        raise UnreadableError(f"{_layout(page)}: not a layout that is understood; save it as gray or RGB, uncompressed")


def _require_whole(file: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Refuse what the library would fill with zeroes: parts that are left out, or lie beyond the end."""
    size = file.filehandle.size
    file.filehandle.seek(page.offset)
    n_tags = int.from_bytes(file.filehandle.read(file.tiff.tagnosize), "big" if file.byteorder == ">" else "little")
    if page.offset + file.tiff.tagnosize + n_tags * file.tiff.tagsize + file.tiff.offsetsize > size:
        raise UnreadableError("truncated: the TIFF file ends before its description does; copy or save it again")
    parts = zip(page.dataoffsets, page.databytecounts, strict=False)
    if any(count == 0 or offset + count > size for offset, count in parts):
        raise UnreadableError("truncated: parts of the picture are missing in the TIFF file; copy or save it again")
    if (
        page.dtype is not None
        and page.compression == 1
        and sum(page.databytecounts) < page.nbytes * page.bitspersample // (8 * page.dtype.itemsize)
    ):
        raise UnreadableError("truncated: fewer bytes than the TIFF file's size needs; copy or save it again")


def _orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(274)
    value = tag.value if tag is not None else 1
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def _has_mask(file: tifffile.TiffFile) -> bool:
    pages = (file.pages[index] for index in range(min(len(file.pages), _NEAR)))
    tags = [page.tags.get(254) for page in pages if isinstance(page, tifffile.TiffPage)]
    return any(tag is not None and isinstance(tag.value, int) and tag.value & _MASK_PAGE for tag in tags)


def _has_frames(file: tifffile.TiffFile) -> bool:
    # One picture beyond the first is enough to know; smaller copies and masks of the first are none.
    for index in range(1, len(file.pages)):
        page = file.pages[index]
        subfile = page.tags.get(254) if isinstance(page, tifffile.TiffPage) else None
        if subfile is None or not subfile.value & (_REDUCED_PAGE | _MASK_PAGE):
            return True
    # ImageJ and others keep the pictures of a large stack behind the one page that they describe.
    if file.is_imagej and (file.imagej_metadata or {}).get("images", 1) > 1:
        return True
    if not (file.is_shaped or file.is_stk):
        return False
    try:
        return any(series.size > file.pages.first.size for series in file.series)
    except Exception:  # what is broken of the metadata decides nothing
        return False
