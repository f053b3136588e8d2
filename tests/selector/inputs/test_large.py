"""Large pictures: limits in our own words, parts instead of the whole, and the memory that the guide states."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from augmentations import InputError
from selector.inputs import decoding, limits
from selector.inputs.decoding import decode
from selector.inputs.limits import LARGEST, resolve_limit
from selector.inputs.raster import BlockMeans
from selector.inputs.reader import read_images
from selector.inputs.unreadable import UnreadableError

ROOT = Path(__file__).parents[3]
SIZE = 8


@pytest.fixture
def smooth():
    """A picture (300,200,3) in [0,1] that survives JPEG."""
    y, x = np.mgrid[0:1:300j, 0:1:200j]
    return np.stack([x, y, 0.5 + 0.4 * np.sin(5 * x) * y], axis=-1)


@pytest.fixture
def small_limit(monkeypatch):
    """Pictures of more than ten thousand bytes count as large."""
    monkeypatch.setattr(limits, "LARGE_BYTES", 10_000)


def test_means_of_blocks_are_those_of_the_whole_whatever_the_parts():
    values = np.random.default_rng(0).integers(0, 256, (75, 50, 3), dtype=np.uint8)
    means = BlockMeans((75, 50), 3, 2)
    for top, bottom in ((0, 13), (13, 64), (64, 75)):
        for left, right in ((0, 7), (7, 50)):
            means.add(values[top:bottom, left:right], top, left)
    raster = means.raster()
    rows, columns = np.arange(75) * 8 // 75, np.arange(50) * 8 // 50
    expected = [[values[rows == y][:, columns == x].mean((0, 1)) for x in range(8)] for y in range(8)]
    np.testing.assert_allclose(raster.values, expected)
    assert raster.extremes == (values.min(), values.max())
    assert raster.size == (75, 50)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize(("kind", "top"), [("u1", 255), ("u2", 65535), ("f4", 1)])
@pytest.mark.parametrize("layout", [{"tile": (64, 48)}, {"rowsperstrip": 7}])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_in_parts_is_as_the_whole(tmp_path, smooth, monkeypatch, planarconfig, kind, top, layout, compression):
    values = (smooth * top).astype(kind)
    values = values.transpose(2, 0, 1) if planarconfig == "separate" else values
    options = {"photometric": "rgb", "planarconfig": planarconfig, "compression": compression, **layout}
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(values), **options, extratags=[(274, "H", 1, 6, True)])
    whole = decode(tmp_path / "a.tif", SIZE)
    monkeypatch.setattr(limits, "LARGE_BYTES", 60_000)
    parts = decode(tmp_path / "a.tif", SIZE)
    torch.testing.assert_close(parts.pixels, whole.pixels, atol=0.01, rtol=0)
    assert (parts.size, parts.bits, parts.remarks) == (whole.size, whole.bits, whole.remarks)
    assert parts.size == (200, 300)


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.5])
def test_a_value_that_has_no_place_is_refused_wherever_it_is(tmp_path, small_limit, value):
    values = np.full((200, 100), 0.5, np.float32)
    values[130, 70] = value
    tifffile.imwrite(tmp_path / "a.tif", values, rowsperstrip=10)
    with pytest.raises(UnreadableError, match="float values"):
        decode(tmp_path / "a.tif", SIZE)


@pytest.mark.parametrize(("suffix", "options"), [("jpg", {"quality": 95}), ("jpg", {"progressive": True}), ("png", {})])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_or_png_in_parts_is_as_the_whole(tmp_path, smooth, monkeypatch, suffix, options, mode):
    if (suffix, mode) == ("png", "CMYK"):
        pytest.skip("PNG has no inks")
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray((255 * smooth).round().astype(np.uint8)).convert(mode)
    image.save(tmp_path / f"a.{suffix}", exif=exif, **options)
    whole = decode(tmp_path / f"a.{suffix}", SIZE)
    monkeypatch.setattr(limits, "LARGE_BYTES", 10_000)
    monkeypatch.setattr(decoding, "_BAND", 200 * 13)
    parts = decode(tmp_path / f"a.{suffix}", SIZE)
    torch.testing.assert_close(parts.pixels, whole.pixels, atol=0.02, rtol=0)
    assert (parts.size, parts.remarks) == (whole.size, whole.remarks) == ((200, 300), ())


@pytest.mark.parametrize("alpha", [0, 100, 255])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "I;16"])
def test_transparency_in_parts_is_as_in_the_whole(tmp_path, smooth, monkeypatch, mode, alpha):
    image = Image.fromarray((255 * smooth).round().astype(np.uint8)).convert("RGB" if mode == "RGB" else "L")
    options = {}
    if mode == "I;16":
        image = Image.fromarray((65535 * smooth[..., 0]).astype(np.uint16))
    elif mode == "P":
        image, options = image.convert("P"), {"transparency": alpha}
    else:
        image.putalpha(Image.fromarray(np.full((300, 200), alpha, np.uint8)))
        image.getchannel("A").paste(255, (0, 0, 50, 50))
    image.save(tmp_path / "a.png", **options)
    whole = decode(tmp_path / "a.png", SIZE)
    monkeypatch.setattr(limits, "LARGE_BYTES", 10_000)
    monkeypatch.setattr(decoding, "_BAND", 200 * 13)
    parts = decode(tmp_path / "a.png", SIZE)
    torch.testing.assert_close(parts.pixels, whole.pixels, atol=0.02, rtol=0)
    assert (parts.size, parts.bits, parts.remarks) == (whole.size, whole.bits, whole.remarks)


def test_the_default_limit_is_what_the_guide_states():
    assert f"more than {LARGEST:g} megapixels" in (ROOT / "docs" / "guide.md").read_text("utf-8")
    check = limits.SizeCheck(resolve_limit(None))
    with pytest.raises(UnreadableError, match="400 megapixels, where at most 300 are read"):
        check(20_000, 20_000, 4)


def test_the_option_comes_before_the_environment_and_that_before_the_default(tmp_path, monkeypatch):
    monkeypatch.delenv(limits.LARGEST_VARIABLE, raising=False)
    assert resolve_limit(None) == LARGEST
    monkeypatch.setenv(limits.LARGEST_VARIABLE, "2")
    assert resolve_limit(None) == 2
    assert resolve_limit(0.5) == 0.5
    Image.new("L", (1000, 1000)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="--max-megapixels"):
        read_images(tmp_path, image_size=SIZE, max_megapixels=0.5)
    assert len(read_images(tmp_path, image_size=SIZE)) == 1


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "many", True])
def test_a_limit_that_is_none_is_refused(tmp_path, monkeypatch, value):
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"max_megapixels=.*must be a number above 0"):
        read_images(tmp_path, image_size=SIZE, max_megapixels=value)
    monkeypatch.setenv(limits.LARGEST_VARIABLE, str(value) if value != True else "yes")  # noqa: E712
    with pytest.raises(InputError, match=r"SSAD_MAX_MEGAPIXELS=.*must be a number above 0"):
        read_images(tmp_path, image_size=SIZE)


def test_pictures_in_parts_have_a_limit_too(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3000, 6000), np.uint8), tile=(512, 512), compression="zlib")
    with pytest.raises(UnreadableError, match="18 megapixels"):
        decode(tmp_path / "a.tif", SIZE, max_megapixels=1)


MEASURE = """
import sys
from pathlib import Path
from selector.inputs.decoding import decode
def kilobytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
for path in sys.argv[1:]:
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = kilobytes("VmRSS")
    decoded = decode(path, 64)
    print(kilobytes("VmHWM") - before, *decoded.size)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell a peak of memory")
def test_the_memory_of_a_large_picture_is_what_the_guide_states(tmp_path):
    """Of 24 megapixels in colour: parts of a TIFF or JPEG, four bytes a pixel of a PNG; and something for all else."""
    size = height, width = 4000, 6000
    image = Image.new("RGB", (width, height), (90, 120, 150))
    small, tiff, jpeg, png, pale = (tmp_path / name for name in ("small.png", "a.tif", "a.jpg", "a.png", "b.png"))
    Image.new("RGB", (64, 64)).save(small)
    tifffile.imwrite(tiff, np.asarray(image), tile=(512, 512), compression="zlib", photometric="rgb")
    image.save(jpeg)
    image.save(png, compress_level=1)
    image.putalpha(100)
    image.save(pale, compress_level=1)
    command = [sys.executable, "-c", MEASURE, *map(str, (small, tiff, jpeg, png, pale))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured = [tuple(map(int, line.split())) for line in done.stdout.splitlines()][1:]
    assert [measure[1:] for measure in measured] == [size] * 4
    for (kilobytes, *_), bytes_per_pixel in zip(measured, (0, 0, 4, 4), strict=True):
        assert height * width * bytes_per_pixel / 2 <= kilobytes * 1024 < height * width * bytes_per_pixel + 200e6
