"""PBM, PGM and PPM files, written by hand with known values."""

import numpy as np
import pytest

from selector.inputs.decoding import decode, is_gray
from selector.inputs.raster import BEHIND, FRAMES
from selector.inputs.unreadable import UnreadableError


@pytest.fixture
def write(tmp_path):
    def write(content: bytes):
        (tmp_path / "a.ppm").write_bytes(content)
        return tmp_path / "a.ppm"

    return write


def reason(path):
    with pytest.raises(UnreadableError) as refusal:
        decode(path)
    return str(refusal.value)


def test_colour_of_16_bits_keeps_its_depth(write):
    values = np.random.default_rng(0).integers(0, 65536, (5, 4, 3))
    decoded = decode(write(b"P6 4 5 65535\n" + values.astype(">u2").tobytes()))
    np.testing.assert_allclose(decoded.pixels, values.transpose(2, 0, 1) / 65535, atol=1e-7)
    assert (decoded.bits, decoded.remarks) == (16, ())


@pytest.mark.parametrize("top", [100, 255, 1000, 4095, 65535])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("is_plain", [False, True])
def test_values_are_fractions_of_the_largest_that_the_file_declares(write, top, samples, is_plain):
    values = np.linspace(0, top, 12 * samples).round().astype(int).reshape(4, 3, samples)
    values[-1] = top
    digit = {(1, False): 5, (3, False): 6, (1, True): 2, (3, True): 3}[samples, is_plain]
    binary = values.astype(">u2" if top > 255 else "u1").tobytes()
    body = " ".join(map(str, values.ravel())).encode() + b"\n" if is_plain else binary
    path = write(b"P%d # a comment\n3 4\n# another\n%d\n" % (digit, top) + body)
    decoded = decode(path)
    np.testing.assert_allclose(decoded.pixels, values.transpose(2, 0, 1) / top, atol=1e-6)
    assert decoded.bits == (16 if top > 255 else 8)
    assert is_gray(path) == (samples == 1)


@pytest.mark.parametrize("content", [b"P1\n3 2\n010\n1 1 0\n", b"P4 3 2\n\x40\xc0"])
def test_bitmaps_have_black_ones(write, content):
    assert decode(write(content)).pixels.tolist() == [[[1, 0, 1], [0, 0, 1]]]


@pytest.mark.parametrize("start", [b"P5 2 2 255\n" + bytes(4), b"P6 2 2 255\n" + bytes(12), b"P4 2 2\n" + bytes(2)])
def test_further_pictures_and_other_data_are_said(write, start):
    assert decode(write(start)).remarks == ()
    assert decode(write(start + b"\n")).remarks == ()
    assert decode(write(start + start)).remarks == (FRAMES,)
    assert decode(write(start + b"\n" + start)).remarks == (FRAMES,)
    assert decode(write(start + b"\x07rest")).remarks == (BEHIND,)


def test_more_values_than_a_plain_file_declares_are_said(write):
    assert decode(write(b"P2 2 2 9 1 2 3 4 5 6")).remarks == (BEHIND,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"P5 4 4 255\n" + bytes(15), "truncated"),
        (b"P2 2 2 255\n1 2 3", "truncated"),
        (b"P5 4 x 255\n" + bytes(16), "header"),
        (b"P5 4 4 70000\n" + bytes(32), "header"),
        (b"P5 0 4 255\n" + bytes(32), "header"),
        (b"P2 2 2 100\n1 2 3 200", "values up to 200, more than the 100"),
        (b"P2 2 2 100\n1 2 3 x", "no numbers"),
        (b"P5 99999 99999 255\n", "megapixels"),
        (b"P7\nWIDTH 4\n", "PAM"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(write, content, words):
    assert words in reason(write(content))
