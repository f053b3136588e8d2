"""Files whose content is healthy and unusual, or looks whole and is not, are read right or refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from selector.inputs.decoding import decode
from selector.inputs.raster import BEHIND, FRAMES
from selector.inputs.unreadable import UnreadableError

SIDE = 13  # no multiple of a byte, nor of the steps of Adam7
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(stream, depth, colours, interlaced=False, palette=False):
    """A PNG of SIDE x SIDE pixels whose checksums are right, whatever its stream holds."""
    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, colours, 0, 0, interlaced)
    table = chunk(b"PLTE", bytes(range(48))) if palette else b""
    body = zlib.compress(stream)
    parts = b"".join(chunk(b"IDAT", part) for part in (body[:7], body[7:]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + table + parts + chunk(b"IEND", b"")


def rows_of(bits, interlaced):
    """The stream of a picture of zeroes: by pass the bytes of its rows."""
    if not interlaced:
        return b"\0" * SIDE * (1 + -(-SIDE * bits // 8))
    columns_and_rows = [(len(range(x, SIDE, across)), len(range(y, SIDE, down))) for x, y, across, down in ADAM7]
    return b"".join(b"\0" * rows * (1 + -(-columns * bits // 8)) for columns, rows in columns_and_rows if columns)


def reason(path):
    with pytest.raises(UnreadableError) as error:
        decode(path)
    return str(error.value)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("depth", "colours", "samples"),
    [(1, 0, 1), (8, 0, 1), (16, 0, 1), (8, 2, 3), (2, 3, 1), (4, 3, 1), (8, 4, 2), (8, 6, 4)],
)
def test_a_png_of_fewer_rows_than_it_says_is_refused_and_a_whole_one_is_not(
    tmp_path, depth, colours, samples, interlaced
):
    path, stream = tmp_path / "a.png", rows_of(depth * samples, interlaced)
    path.write_bytes(png(stream, depth, colours, interlaced, palette=colours == 3))
    assert decode(path).size == (SIDE, SIDE)
    for kept in (len(stream) - 1, len(stream) // 2):
        path.write_bytes(png(stream[:kept], depth, colours, interlaced, palette=colours == 3))
        assert reason(path) == "truncated: the PNG file has fewer rows than its size needs; copy or save it again"


def saved(suffix, **options):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, {"jpg": "jpeg"}.get(suffix, suffix), **options)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_what_follows_a_picture_is_said_and_padding_is_not(tmp_path, suffix):
    path, picture = tmp_path / f"a.{suffix}", saved(suffix)
    path.write_bytes(picture)
    alone = decode(path)
    assert alone.remarks == ()
    path.write_bytes(picture + b"\0" * 9)
    assert decode(path).remarks == ()
    path.write_bytes(picture + b"a trailer")
    assert decode(path).remarks == (BEHIND,)
    assert (decode(path).pixels == alone.pixels).all()
    path.write_bytes(picture + picture)
    assert decode(path).remarks == ((BEHIND,) if suffix == "bmp" else (FRAMES,))


def test_a_progressive_jpeg_of_many_scans_is_alone(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(saved("jpg", progressive=True))
    assert decode(path).remarks == ()


@pytest.mark.parametrize(
    ("marker", "bits", "kind"),
    [
        (0xC1, 12, "a JPEG of 12 bits, where only 8 are understood"),
        (0xC3, 8, "a lossless JPEG, which is not understood"),
        (0xF7, 8, "JPEG-LS, which is not understood"),
    ],
)
def test_a_jpeg_of_another_kind_is_named_and_not_called_damaged(tmp_path, marker, bits, kind):
    path, picture = tmp_path / "a.jpg", bytearray(saved("jpg"))
    at = picture.find(b"\xff\xc0")
    picture[at + 1], picture[at + 4] = marker, bits
    path.write_bytes(bytes(picture))
    assert reason(path).startswith(kind)
    assert "TIFF of 16 bits" in reason(path)
