"""Why a file is refused: in words that say what it is and what to save instead."""

import os
from contextlib import suppress

SAVE_AS = "save it as PNG, TIFF or JPEG"
_ISO_BRANDS = {b"avif": "an AVIF picture", b"heic": "a HEIC photo", b"heix": "a HEIC photo", b"mif1": "a HEIF photo"}
_BEGINNINGS = {
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"8BPS": "a Photoshop document",
    b"\x76\x2f\x31\x01": "an OpenEXR picture",
    b"SIMPLE  =": "a FITS file",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF\r\n": "an HDF5 file",
    b"PK\x03\x04": "a zip archive or an office document",
    b"\x1f\x8b": "a gzip archive",
    b"P7\n": "a PAM picture",
    b"PF\n": "a PFM picture",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\xff\x0a": "a JPEG XL picture",
    b"\x00\x00\x00\x0cJXL ": "a JPEG XL picture",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"\x00\x00\x01\x00": "an icon",
    b"#?RADIANCE": "a Radiance HDR picture",
    b"<?xml": "an XML or SVG document",
    b"<svg": "an SVG drawing",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"\x1aE\xdf\xa3": "a video",
    b"RIFF": "a sound or a video",
    b"version https://git-lfs": "a pointer of Git LFS, whose content was not fetched",
}
_DICOM_AT = 128
_RIFF_HEADER = 8  # bytes, of which the last four hold the length of what follows
_CUT_SHORT = "truncated: the file ends before its picture does; copy or save it again"


class UnreadableError(Exception):
    """A file that cannot be decoded; the text is the reason, for the user to read."""


def describe_kind(start: bytes) -> str:
    """What a file that is no image which can be read probably is, by how it begins."""
    if start[4:8] == b"ftyp":
        kind = _ISO_BRANDS.get(start[8:12], "a video or a HEIF photo")
    elif start[_DICOM_AT : _DICOM_AT + 4] == b"DICM":
        kind = "a DICOM file"
    else:
        kind = next((kind for beginning, kind in _BEGINNINGS.items() if start.startswith(beginning)), "")
    if kind:
        return f"not an image of a kind that can be read, but {kind}: {SAVE_AS}"
    if start and not start.strip(b"\0"):
        return "not an image: the file begins with zeroes, as after a copy that was cut short; copy it again"
    return f"not an image, or of a kind that cannot be read: {SAVE_AS}"


def describe_damage(path: str | os.PathLike[str], error: Exception) -> str:
    """Why the content of a picture can't be decoded; a library's own words may be a number or name one of its parts."""
    is_cut_short = isinstance(error, EOFError) or "truncated" in str(error).lower() or _is_short_webp(path)
    return _CUT_SHORT if is_cut_short else "damaged: its picture can't be decoded; copy or save it again"


def _is_short_webp(path: str | os.PathLike[str]) -> bool:
    with suppress(OSError), open(path, "rb") as stream:
        start = stream.read(_RIFF_HEADER)
        length = int.from_bytes(start[4:], "little")
        return start.startswith(b"RIFF") and os.stat(path).st_size < _RIFF_HEADER + length
    return False
