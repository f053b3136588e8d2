"""TIFF files with more than a picture in them, or of layouts that are healthy and not understood."""

import struct

import numpy as np
import pytest
import tifffile

from selector.inputs.decoding import decode
from selector.inputs.raster import FRAMES, MASK
from selector.inputs.unreadable import UnreadableError

GRAY = np.arange(30, dtype=np.uint8).reshape(5, 6)


def reason(path):
    with pytest.raises(UnreadableError) as error:
        decode(path)
    return str(error.value)


@pytest.mark.parametrize("compression", [None, "jpeg"])
@pytest.mark.parametrize("has_second", [False, True])
def test_a_mask_beside_the_picture_is_said(tmp_path, compression, has_second):
    """As GDAL writes what is not there; libtiff reads the JPEG."""
    path = tmp_path / "a.tif"
    picture = np.zeros((16, 16, 3), np.uint8)
    with tifffile.TiffWriter(path) as file:
        file.write(picture, photometric="rgb", compression=compression)
        file.write(np.ones((16, 16), bool), photometric="mask", subfiletype=4)
        if has_second:
            file.write(picture, photometric="rgb", compression=compression)
    assert decode(path).remarks == ((FRAMES, MASK) if has_second else (MASK,))


def changed(path, tag, value):
    """Set a tag of one short in a little-endian file."""
    data = bytearray(path.read_bytes())
    at = data.find(struct.pack("<HHI", tag, 3, 1))
    data[at + 8 : at + 10] = struct.pack("<H", value)
    path.write_bytes(bytes(data))


def test_an_unknown_compression_is_named(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRAY, photometric="minisblack")
    changed(path, 259, 12345)
    said = reason(path)
    assert "compression 12345" in said
    assert said.endswith("not a compression that is understood; save it uncompressed")


def test_colours_of_fewer_pixels_than_there_are_are_named(tmp_path):
    """Uncompressed YCbCr of 4 x 4 pixels, four of brightness and one of each colour together."""
    path = tmp_path / "a.tif"
    tags = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 6), (273, 4, 1, 8)]
    tags += [(277, 3, 1, 3), (278, 3, 1, 4), (279, 4, 1, 24), (530, 3, 2, 2 | 2 << 16)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path.write_bytes(b"II*\0" + struct.pack("<I", 32) + bytes(24) + struct.pack("<H", len(tags)) + entries + bytes(4))
    said = reason(path)
    assert "truncated" not in said
    assert said.endswith("understood of compression JPEG alone; save it as RGB")
