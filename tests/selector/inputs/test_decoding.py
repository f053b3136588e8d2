"""Each file is written with known values, which must come back as fractions of the file's own range."""

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from selector.inputs import raster
from selector.inputs.decoding import decode, is_gray
from selector.inputs.raster import DIM, FRAMES, INVISIBLE, REDUCED, TRANSPARENT
from selector.inputs.unreadable import UnreadableError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def save(image, path, **options):
    image.save(path, **options)
    return path


def tiff(path, data, height, width, bits, *, order="<", sample_format=1, photometric=1):
    """A TIFF by hand, for the kinds that Pillow reads but does not write."""
    short, long = 3, 4
    tags = [
        *((256, short, width), (257, short, height), (258, short, bits), (259, short, 1)),
        *((262, short, photometric), (273, long, 8), (277, short, 1), (278, short, height)),
        *((279, long, len(data)), (339, short, sample_format)),
    ]
    data += b"\0" * (len(data) % 2)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data))
    entries = [
        struct.pack(order + "HHI", tag, kind, 1)
        + (struct.pack(order + "HH", value, 0) if kind == short else struct.pack(order + "I", value))
        for tag, kind, value in tags
    ]
    path.write_bytes(head + data + struct.pack(order + "H", len(tags)) + b"".join(entries) + b"\0" * 4)
    return path


def png(path, rows, height, width, bits, colour_type):
    """A PNG by hand, for colour of 16 bits a channel."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def first_pixel(path):
    return decode(path).pixels[:, 0, 0].tolist()


def reason(path):
    with pytest.raises(UnreadableError) as refusal:
        decode(path)
    return str(refusal.value)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_keep_their_range(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    path = save(Image.fromarray(ramp), tmp_path / f"ramp.{suffix}")
    pixels = decode(path).pixels
    assert pixels.shape == (1, 64, 64)
    assert pixels.dtype == torch.float32
    assert len(pixels.unique()) == 64 * 64
    assert (pixels.min(), pixels.max()) == (0, 1)
    torch.testing.assert_close(pixels[0], torch.from_numpy((ramp / 65535).astype(np.float32)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_tiff_of_either_byte_order(tmp_path, order):
    values = np.arange(16) * 4369
    path = tiff(tmp_path / "a.tif", values.astype(order + "u2").tobytes(), 4, 4, 16, order=order)
    np.testing.assert_allclose(decode(path).pixels.ravel(), np.arange(16) / 15, rtol=1e-6)


def test_12_bit_tiff_is_divided_by_12_bits(tmp_path):
    values = np.arange(16) * 273
    bits = "".join(f"{value:012b}" for value in values)
    data = bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))
    decoded = decode(tiff(tmp_path / "a.tif", data, 4, 4, 12))
    np.testing.assert_allclose(decoded.pixels.ravel(), np.arange(16) / 15, rtol=1e-6)
    assert decoded.remarks == ()


def test_16_bit_tiff_where_zero_is_white(tmp_path):
    values = np.array([0, 65535, 13107, 52428], "<u2")
    path = tiff(tmp_path / "a.tif", values.tobytes(), 2, 2, 16, photometric=0)
    np.testing.assert_allclose(decode(path).pixels.ravel(), [1, 0, 0.8, 0.2], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "bits", "sample_format", "top"),
    [("u4", 32, 1, 2**32 - 1), ("i4", 32, 2, 2**31 - 1), ("i2", 16, 2, 2**15 - 1)],
)
def test_32_bit_and_signed_tiff_by_their_own_depth(tmp_path, kind, bits, sample_format, top):
    values = np.array([0, top // 4, top // 2, top], "<" + kind)
    path = tiff(tmp_path / "a.tif", values.tobytes(), 2, 2, bits, sample_format=sample_format)
    np.testing.assert_allclose(decode(path).pixels.ravel(), values / top, atol=1e-6)


def test_negative_integers_are_refused(tmp_path):
    path = save(Image.fromarray(np.full((4, 4), -3, np.int32)), tmp_path / "a.tif")
    assert "negative values (-3)" in reason(path)


def test_12_bits_of_data_in_a_16_bit_file_are_remarked(tmp_path):
    path = save(Image.fromarray(np.full((4, 4), 4095, np.uint16)), tmp_path / "a.png")
    decoded = decode(path)
    assert decoded.remarks == (DIM,)
    assert decoded.pixels.max() == pytest.approx(4095 / 65535)


def test_16_bit_pgm(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 2 2 65535\n" + np.array([0, 13107, 52428, 65535], ">u2").tobytes())
    np.testing.assert_allclose(decode(path).pixels.ravel(), [0, 0.2, 0.8, 1], atol=1e-6)


@pytest.mark.parametrize(("colour_type", "samples"), [(2, (65535, 0, 13107)), (6, (65535, 0, 13107, 65535))])
def test_16_bit_colour_is_read_at_8_and_said(tmp_path, colour_type, samples):
    row = struct.pack(f">{len(samples) * 2}H", *samples * 2)
    decoded = decode(png(tmp_path / "a.png", [row] * 2, 2, 2, 16, colour_type))
    assert decoded.pixels[:, 0, 0].tolist() == pytest.approx([1, 0, 0.2], abs=1 / 255)
    assert decoded.remarks == (REDUCED,)


def test_float_tiff_is_taken_as_it_is(tmp_path):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    path = save(Image.fromarray(values), tmp_path / "a.tif")
    np.testing.assert_array_equal(decode(path).pixels[0], values)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (255.0, "float values outside [0, 1] (0 to 255)"),
        (-0.5, "float values outside [0, 1]"),
        (np.nan, "NaN"),
    ],
)
def test_float_tiff_of_another_range_or_nan_is_refused(tmp_path, value, said):
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = value
    assert said in reason(save(Image.fromarray(values), tmp_path / "a.tif"))


@pytest.mark.parametrize(("mode", "white"), [("1", 1), ("L", 255)])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_one_and_eight_bit_gray(tmp_path, mode, white, suffix):
    image = Image.new(mode, (3, 2))
    image.putpixel((0, 0), white)
    path = save(image, tmp_path / f"a.{suffix}")
    assert is_gray(path)
    assert decode(path).pixels.tolist() == [[[1, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "webp", "ppm"])
def test_colours_of_lossless_files_are_exact(tmp_path, suffix):
    image = Image.new("RGB", (3, 2), RED)
    image.putpixel((2, 1), BLUE)
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(image, tmp_path / f"a.{suffix}", **options)
    pixels = decode(path).pixels
    assert not is_gray(path)
    assert pixels.shape == (3, 2, 3)
    assert pixels[:, 0, 0].tolist() == [1, 0, 0]
    assert pixels[:, 1, 2].tolist() == [0, 0, 1]


def test_jpeg(tmp_path):
    assert first_pixel(save(Image.new("RGB", (16, 16), RED), tmp_path / "a.jpg")) == pytest.approx([1, 0, 0], abs=0.02)


def test_palette_colours_are_exact(tmp_path):
    image = Image.new("P", (2, 2), 1)
    image.putpalette([*GREEN, 10, 20, 30])
    decoded = decode(save(image, tmp_path / "a.png"))
    np.testing.assert_allclose(decoded.pixels[:, 0, 0], np.array([10, 20, 30]) / 255, rtol=1e-6)
    assert decoded.remarks == ()


def test_palette_transparency_is_laid_over_white(tmp_path):
    image = Image.new("P", (2, 2), 1)
    image.putpalette([*GREEN, 10, 20, 30])
    image.putpixel((1, 1), 0)
    for name, transparency in (("one.png", 1), ("many.png", bytes([255, 51]))):
        decoded = decode(save(image, tmp_path / name, transparency=transparency))
        alpha = 0 if transparency == 1 else 0.2
        expected = np.array([10, 20, 30]) / 255 * alpha + 1 - alpha
        np.testing.assert_allclose(decoded.pixels[:, 0, 0], expected, rtol=1e-6)
        assert decoded.pixels[:, 1, 1].tolist() == [0, 1, 0]
        assert decoded.remarks == (TRANSPARENT,)


def test_alpha_is_laid_over_white(tmp_path):
    image = Image.new("RGBA", (2, 2), (*RED, 51))
    image.putpixel((1, 1), (0, 0, 0, 0))
    for suffix in ("png", "tif"):
        decoded = decode(save(image, tmp_path / f"a.{suffix}"))
        assert decoded.pixels[:, 0, 0].tolist() == pytest.approx([1, 0.8, 0.8])
        assert decoded.pixels[:, 1, 1].tolist() == [1, 1, 1]
        assert decoded.remarks == (TRANSPARENT,)


def test_an_opaque_alpha_channel_is_no_transparency(tmp_path):
    decoded = decode(save(Image.new("RGBA", (2, 2), (*RED, 255)), tmp_path / "a.png"))
    assert decoded.pixels[:, 0, 0].tolist() == [1, 0, 0]
    assert decoded.remarks == ()


def test_gray_alpha_stays_gray(tmp_path):
    path = save(Image.new("LA", (2, 2), (0, 51)), tmp_path / "a.png")
    assert is_gray(path)
    assert first_pixel(path) == pytest.approx([0.8])


def test_palette_alpha(tmp_path):
    image = Image.new("PA", (2, 2))
    image.putpalette([*RED])
    image.putalpha(51)
    assert first_pixel(save(image, tmp_path / "a.tif")) == pytest.approx([1, 0.8, 0.8], abs=0.01)


def test_a_transparent_gray_value(tmp_path):
    values = np.array([[7, 9], [7, 9]])
    eight = save(Image.fromarray(values.astype(np.uint8)), tmp_path / "8.png", transparency=7)
    sixteen = save(Image.fromarray(values.astype(np.uint16)), tmp_path / "16.png", transparency=7)
    assert first_pixel(eight) == first_pixel(sixteen) == [1]


def test_a_transparent_gray_value_that_is_everywhere_is_left_out(tmp_path):
    for kind, top in ((np.uint8, 255), (np.uint16, 65535)):
        path = save(Image.fromarray(np.full((2, 2), top // 5, kind)), tmp_path / "a.png", transparency=top // 5)
        assert first_pixel(path) == pytest.approx([0.2])
        assert decode(path).remarks == (INVISIBLE,)


def test_cmyk(tmp_path):
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    for suffix in ("tif", "jpg"):
        assert first_pixel(save(image, tmp_path / f"a.{suffix}")) == pytest.approx([0, 1, 1], abs=0.02)


def test_ycbcr_and_lab(tmp_path):
    ycbcr = save(Image.new("RGB", (8, 8), RED).convert("YCbCr"), tmp_path / "y.tif")
    assert first_pixel(ycbcr) == pytest.approx([1, 0, 0], abs=0.02)
    # CIE L* = 100 (stored as 255) with a* = b* = 0 (as 128) is white; L* = 0 is black.
    assert first_pixel(save(Image.new("LAB", (8, 8), (255, 128, 128)), tmp_path / "w.tif")) == pytest.approx(
        [1, 1, 1], abs=0.02
    )
    assert first_pixel(save(Image.new("LAB", (8, 8), (0, 128, 128)), tmp_path / "b.tif")) == pytest.approx(
        [0, 0, 0], abs=0.02
    )


def test_orientation_keeps_16_bits(tmp_path):
    values = np.arange(8, dtype=np.uint16).reshape(2, 4) * 9362
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("png", "tif"):
        path = save(Image.fromarray(values), tmp_path / f"a.{suffix}", exif=exif)
        np.testing.assert_allclose(decode(path).pixels[0], np.rot90(values, -1) / 65535, rtol=1e-6)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_6_turns_the_image_clockwise(tmp_path, suffix):
    image = Image.new("L", (32, 16))
    image.paste(255, (0, 0, 16, 16))  # the left half is white: on top once turned clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(save(image, tmp_path / f"a.{suffix}", exif=exif)).pixels
    assert pixels.shape[1:] == (32, 16)
    assert pixels[:, :14].min() > 0.9
    assert pixels[:, 18:].max() < 0.1


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_the_first_of_several_frames_is_read_and_said(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(frames[0], tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    decoded = decode(path)
    assert decoded.pixels[:, 0, 0].tolist() == [1, 0, 0]
    assert decoded.remarks == (FRAMES,)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "truncated" in reason(path) or "unrecognized" in reason(path) or "not an image" in reason(path)


def test_content_decides_not_the_suffix(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no pixels here")
    assert reason(text).startswith("not an image")
    assert first_pixel(save(Image.new("RGB", (4, 4), RED), tmp_path / "really-png.jpg", format="PNG")) == [
        1,
        0,
        0,
    ]


def test_postscript_is_never_started(tmp_path):
    path = tmp_path / "page.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert reason(path).startswith("not an image")


def test_other_things_that_are_no_images(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    assert reason(tmp_path / "empty.png") == "an empty file"
    assert reason(tmp_path / "folder.png") == "a folder, not an image"
    assert reason(tmp_path / "absent.png") == "No such file or directory"
    one = save(Image.new("L", (1, 1)), tmp_path / "one.png")
    assert reason(one) == "1 x 1: smaller than 2 pixels on a side"


def test_a_loop_of_links_and_a_pipe_do_not_hang(tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert "symbolic links" in reason(tmp_path / "loop.png")
    assert reason(tmp_path / "pipe.png") == "not a regular file"


def test_a_larger_picture_than_the_limit_names_the_option(tmp_path, monkeypatch):
    path = save(Image.new("L", (2000, 1000)), tmp_path / "a.png")
    monkeypatch.setenv("SSAD_MAX_MEGAPIXELS", "1")
    assert "1000 x 2000 pixels, 2 megapixels" in reason(path)
    assert "SSAD_MAX_MEGAPIXELS" in reason(path)
    monkeypatch.setenv("SSAD_MAX_MEGAPIXELS", "2")
    assert decode(path).size == (1000, 2000)


def test_pillows_own_limit_decides_nothing(tmp_path, monkeypatch):
    path = save(Image.new("L", (100, 100), 51), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert first_pixel(path) == pytest.approx([0.2])


def test_a_large_picture_is_resized_in_bands_as_if_whole(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)
    path = save(Image.fromarray(values), tmp_path / "a.png")
    whole = decode(path, 8).pixels
    monkeypatch.setattr(raster, "_BAND", 70 * 13)
    torch.testing.assert_close(decode(path, 8).pixels, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize(
    ("kind", "top"), [("u1", 255), ("u2", 65535), ("f4", 1), ("f8", 1), ("f2", 1), ("u4", 2**32 - 1)]
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_tiffs_of_any_layout_keep_their_values(tmp_path, planarconfig, kind, top, byteorder, compression):
    shape = (3, 5, 4) if planarconfig == "separate" else (5, 4, 3)
    fractions = np.random.default_rng(1).uniform(size=shape)
    path, values = tmp_path / "a.tif", (fractions * top).astype(kind)
    options = {"planarconfig": planarconfig, "photometric": "rgb", "byteorder": byteorder, "compression": compression}
    tifffile.imwrite(path, values, **options)
    expected = values.astype(float) / top
    expected = expected if planarconfig == "separate" else expected.transpose(2, 0, 1)
    np.testing.assert_allclose(decode(path).pixels, expected, atol=1e-6)


def test_bands_beyond_colour_are_refused_by_name(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((5, 4, 5), np.uint8), photometric="rgb", extrasamples=[0, 0])
    assert reason(path).startswith("5 bands per pixel")


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (np.zeros((4, 5), np.complex64), {}),
        (np.zeros((3, 16, 16), np.uint8), {"volumetric": True, "tile": (1, 16, 16)}),
    ],
    ids=["complex", "volume"],
)
def test_a_tiff_of_another_layout_says_which_and_what_to_save(tmp_path, values, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="minisblack", **options)
    said = reason(path)
    assert said.endswith("not a layout that is understood; save it as 8 or 16 bits"), said
    assert not said.startswith("not a layout"), "which layout it has"


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_alpha_that_hides_everything_is_left_out(tmp_path, suffix):
    decoded = decode(save(Image.new("RGBA", (4, 4), (*RED, 0)), tmp_path / f"a.{suffix}"))
    assert decoded.pixels[:, 0, 0].tolist() == [1, 0, 0]
    assert decoded.remarks == (INVISIBLE,)


def test_a_checksum_that_does_not_match_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : -20] = bytes(len(data) - 20 - len(data) // 2)
    path.write_bytes(data)
    assert reason(path).startswith("damaged: the checksum of part IDAT at byte 33 does not match")


@pytest.mark.parametrize(
    "odd",
    [
        struct.pack("<HHII", 282, 10, 1, 100),  # a fraction, -1/0
        struct.pack("<HHII", 305, 2, 400, 60000),  # a text beyond the end
        struct.pack("<HHII", 306, 0, 1, 7),  # a type that does not exist
        struct.pack("<HHII", 34665, 4, 1, 65000),  # a directory beyond the end
    ],
)
@pytest.mark.parametrize("marker", [b"Exif\0\0", b"Exif\0\0Exif\0\0"])
def test_the_orientation_is_read_whatever_else_is_broken(tmp_path, odd, marker):
    image = Image.new("L", (32, 16))
    image.paste(255, (0, 0, 16, 16))
    entries = struct.pack("<HHIHH", 274, 3, 1, 3, 0) + odd
    block = b"II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4) + bytes(100)
    pixels = decode(save(image, tmp_path / "a.jpg", exif=marker + block)).pixels
    assert pixels[:, :, 18:].min() > 0.9
    assert pixels[:, :, :14].max() < 0.1


@pytest.mark.parametrize(
    ("start", "kind"), [(b"%PDF-1.7", "PDF"), (b"\0\0\0 ftypheic", "HEIC"), (b"\x93NUMPY", "NumPy")]
)
def test_what_is_no_image_is_said_to_be_what_it_is(tmp_path, start, kind):
    path = tmp_path / "a.png"
    path.write_bytes(start + bytes(200))
    assert kind in reason(path)
    assert "save it as" in reason(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = save(Image.new("L", (4, 4)), tmp_path / "a.png")
    path.chmod(0)
    assert reason(path) == "Permission denied"


def test_a_refusal_of_the_system_keeps_its_words(tmp_path, monkeypatch):
    path = save(Image.new("L", (4, 4)), tmp_path / "a.png")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    assert reason(Path(path)) == "Permission denied"


OURS = re.compile(r"(truncated|damaged): [a-zA-Z0-9 ,']+; copy or save it again|not an image.*")
CUT = {
    "jpg": {},
    "png": {},
    "bmp": {},
    "webp": {},
    "gif": {},
    "tif": {},
    "jpeg.tif": {"compression": "jpeg"},
    "ppm": {},
}


@pytest.mark.parametrize("suffix", CUT)
def test_the_reason_of_a_file_that_was_cut_anywhere_is_in_our_words(tmp_path, suffix, capfd, recwarn):
    """Libraries call it "decoder error -2" or a number, or write to the terminal (as libtiff still does)."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    path = tmp_path / f"a.{suffix}"
    (noise.convert("P") if suffix == "gif" else noise).save(path, **CUT[suffix])
    whole = path.read_bytes()
    for cut in range(1, 50):
        path.write_bytes(whole[: len(whole) * cut // 50])
        said = reason(path)
        assert OURS.fullmatch(said), said
    assert suffix == "jpeg.tif" or (not recwarn.list and capfd.readouterr() == ("", ""))
