"""Checks of images: what is reported, and that ordinary images raise no warning."""

import json

import pytest
import torch

from augmentations import InputError
from selector.inputs.image_checks import Profile, duplicates_across_splits, require_pictures, warnings
from selector.inputs.reader import Images
from selector.inputs.remarks import summary
from selector.inputs.splits import Splits, split


def read(pixels, prefix, size=(32, 32)):
    names = tuple(f"{prefix}{i}.png" for i in range(len(pixels)))
    return Images(pixels, names, (size,) * len(pixels))


@pytest.fixture
def train(stripes):
    return read(stripes(40), "train/")


def test_ordinary_images_with_defects_raise_no_warning(train, stripes, scratched):
    test = read(torch.cat([stripes(60, 5), scratched(60)]), "test/")
    assert warnings(train, test) == []
    assert duplicates_across_splits(train, split(40, 0)) == []


def test_identical_images_are_named_in_pairs(train, stripes):
    pixels = stripes(10, 5)
    pixels[[2, 7]] = train.pixels[[30, 4]]
    (warning,) = warnings(train, read(pixels, "test/"))
    assert warning.startswith("test: 2 images are identical")
    assert "test/2.png = train/30.png, test/7.png = train/4.png" in warning


def test_almost_identical_images_are_not_identical(train):
    pixels = train.pixels[:10].clone()
    pixels[:, 0, 0, 0] += 1e-6
    assert warnings(train, read(pixels, "test/")) == []


@pytest.mark.parametrize(("size", "odd"), [((64, 64), False), ((65, 32), True), ((16, 16), False), ((32, 15), True)])
def test_sizes_beyond_twice_or_half_are_odd(train, stripes, size, odd):
    found = warnings(train, read(stripes(5, 5), "test/", size))
    assert bool(found) == odd
    if odd:
        assert "5 images are far from the train images' size (sides of 32 to 32 pixels)" in found[0]
        assert f"test/0.png ({size[0]} x {size[1]})" in found[0]
        assert found[0].endswith("and 2 more")


@pytest.mark.parametrize("shift", [0.2, -0.2])
def test_another_lamp_is_reported(train, stripes, shift):
    pixels = stripes(6, 5)
    pixels[1:3] = (pixels[1:3] + shift).clamp(0, 1)
    (warning,) = warnings(train, read(pixels, "test/"))
    assert warning.startswith("test: 2 images are far from the train images' mean brightness")
    assert "test/1.png" in warning


def test_the_more_train_images_vary_the_less_is_odd(stripes):
    dimmed = torch.linspace(0.3, 1, 40)[:, None, None, None]
    lamps = read(stripes(40) * dimmed, "train/")
    assert warnings(lamps, read(0.6 * stripes(6, 5), "test/")) == []


def test_duplicates_in_different_splits_are_reported(train):
    pixels = train.pixels.clone()
    splits = Splits(torch.arange(28), torch.arange(28, 34), torch.arange(34, 40))
    pixels[3], pixels[29] = pixels[2], pixels[10]  # within a split, and across
    (warning,) = duplicates_across_splits(read(pixels, ""), splits)
    assert warning.startswith("train: 1 image is identical to one of another split")
    assert "29.png = 10.png" in warning


@pytest.mark.parametrize(
    "values", [torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 1, 8, 8), torch.rand(1, 8, 8).expand(5, 1, 8, 8)]
)
def test_constant_or_identical_train_images_are_refused_with_what_the_reader_noticed(values):
    train = Images(values.contiguous(), tuple("abcde"), ((8, 8),) * 5, notes=("5 images nearly black (first: a)",))
    with pytest.raises(InputError, match=r"single value|identical") as refusal:
        require_pictures(train, "train")
    assert "nearly black" in str(refusal.value)


def test_one_constant_image_among_others_is_not_refused():
    pixels = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels[0] = 0
    require_pictures(Images(pixels, tuple("abcde"), ((8, 8),) * 5), "train")


class TestProfile:
    """Select and detect compare images with train images by one function."""

    def test_what_is_odd_is_said_of_each_image_with_its_own_value(self, stripes):
        train = Images(stripes(40), tuple(map(str, range(40))), ((32, 32),) * 40, bits=(8,) * 40)
        pixels = stripes(4, 5)
        pixels[3] = 0.01
        images = Images(pixels, tuple("abcd"), ((32, 32), (3, 3), (32, 32), (32, 32)), bits=(8, 8, 16, 8))
        odd = Profile.of(train).odd(images)
        assert odd[0] == ()
        assert odd[1] == ("far from the train images' size (sides of 32 to 32 pixels): 3 x 3",)
        assert odd[2] == ("of another bit depth than the train images (8 bits): 16 bits",)
        assert odd[3][0].startswith("far from the train images' mean brightness (")
        assert odd[3][0].endswith(": 0.01")
        assert [line.partition(": ")[0] for line in warnings(train, images)] == ["test"] * 3
        assert (
            "1 image is of another bit depth than the train images (8 bits): c (16 bits)" in warnings(train, images)[1]
        )

    def test_a_profile_is_the_same_after_json(self, train):
        profile = Profile.of(train)
        assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile

    def test_an_unknown_depth_is_not_compared(self, train, stripes):
        images = Images(stripes(1, 5), ("a",), ((32, 32),), bits=(16,))
        assert Profile.of(train).odd(images) == ((),)

    def test_many_images_are_summed_up_by_problem(self):
        remarks = [(name, ["too small: 3 x 3", "dark"]) for name in "abcde"]
        assert summary(remarks) == [
            "5 images are too small: a (3 x 3), b (3 x 3), c (3 x 3) and 2 more",
            "5 images are dark: a, b, c and 2 more",
        ]
