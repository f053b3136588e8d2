"""Netpbm files (PBM, PGM, PPM; plain or binary), at the depth that they have, which Pillow does not keep for colour."""

import re
from typing import IO

import numpy as np

from selector.inputs.limits import SizeCheck
from selector.inputs.raster import BEHIND, FRAMES, Raster
from selector.inputs.unreadable import UnreadableError

_BITMAPS, _COLOUR, _PLAIN = (b"P1", b"P4"), (b"P3", b"P6"), (b"P1", b"P2", b"P3")
_MAGIC = re.compile(rb"P[1-6](?=[\s#])")
_SPACE = rb"(?:\s|#[^\n\r]*[\n\r])+"  # comments may stand wherever space may
_DEEPEST = 65535
_WORD_BYTES = 64  # that a value of a plain file takes while it is read
_LONGEST_HEADER = 2**16


def is_netpbm(start: bytes) -> bool:
    """Whether a file that begins so is of this kind."""
    return _MAGIC.match(start) is not None


def is_gray(start: bytes) -> bool:
    """Whether a file of this kind that begins so is gray."""
    return start[:2] not in _COLOUR


def read(stream: IO[bytes], check_size: SizeCheck) -> Raster:
    """The first picture of a file.

    Raises:
        UnreadableError: The header makes no sense, or the picture is incomplete.
    """
    start = stream.read(_LONGEST_HEADER)
    magic = start[:2]
    has_top = magic not in _BITMAPS
    # One white space ends the header of a binary file; a comment after it would be pixels.
    header = re.match(magic + (_SPACE + rb"(\d{1,10})") * (3 if has_top else 2) + rb"\s", start)
    if header is None:
        raise UnreadableError("damaged: a PBM, PGM or PPM file whose header makes no sense; save it again")
    width, height, *tops = map(int, header.groups())
    top = tops[0] if has_top else 1
    if not (width and height and 0 < top <= _DEEPEST):
        raise UnreadableError(f"damaged: a Netpbm header of {height} x {width} pixels with values up to {top}")
    samples = 3 if magic in _COLOUR else 1
    is_deep = top > 255
    check_size(height, width, samples * (_WORD_BYTES if magic in _PLAIN else 1 + is_deep))
    stream.seek(header.end())
    if magic in _PLAIN:
        values, rest = _plain(stream.read(), height * width * samples, magic)
    else:
        values, rest = _binary(stream, (height, width, samples), magic, is_deep)
    remarks = [FRAMES if is_netpbm(rest.lstrip()) else BEHIND] if rest.strip() else []
    return Raster(
        values.reshape(height, width, samples),
        top=float(top),
        bits=16 if is_deep else 8,
        is_inverted=magic in _BITMAPS,
        remarks=tuple(remarks),
    )


def _binary(stream: IO[bytes], shape: tuple[int, int, int], magic: bytes, is_deep: bool) -> tuple[np.ndarray, bytes]:
    """The values, and what is behind them."""
    height, width, samples = shape
    row = (width + 7) // 8 if magic == b"P4" else width * samples * (1 + is_deep)
    data = stream.read(height * row)
    if len(data) < height * row:
        raise _truncated()
    rest = stream.read(_LONGEST_HEADER)
    if magic == b"P4":
        return np.unpackbits(np.frombuffer(data, np.uint8).reshape(height, row), axis=1, count=width), rest
    return np.frombuffer(data, ">u2" if is_deep else np.uint8), rest


def _plain(text: bytes, count: int, magic: bytes) -> tuple[np.ndarray, bytes]:
    text = re.sub(rb"#[^\n\r]*", b"", text)
    digits = re.sub(rb"\s", b"", text) if magic == b"P1" else text
    # In a bitmap digits need no space between them.
    words = [digits[i : i + 1] for i in range(min(count, len(digits)))] if magic == b"P1" else text.split(None, count)
    if len(words) < count:
        raise _truncated()
    try:
        values = np.array(list(map(int, words[:count])), np.int64)
    except ValueError as error:
        raise UnreadableError("damaged: a plain Netpbm file with values that are no numbers") from error
    rest = digits[count:] if magic == b"P1" else b"".join(words[count:])
    return values, rest


def _truncated() -> UnreadableError:
    return UnreadableError("truncated: the Netpbm file has fewer values than its size needs; copy or save it again")
