"""Random views of images."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torchvision.transforms import functional as tv

from augmentations.randomness import generator
from detectors.views import _places, apply_views, sample_views, symmetries


@dataclass(frozen=True)
class Strength:
    crop: float = 1.0
    hflip: bool = False
    jitter: float = 0.0
    gray: float = 0.0


def smooth(n=4, channels=3, side=24):
    images = torch.rand(n, channels, 6, 6, generator=generator(0))
    return nn.functional.interpolate(images, side, mode="bilinear")


def view(images, strength, seed=0, **arguments):
    draws = sample_views(len(images), strength, tuple(images.shape[2:]), generator(seed))
    return apply_views(images, draws, strength, **arguments), draws


def test_symmetries_are_turns_and_flips_in_their_order():
    images = torch.rand(8, 2, 6, 6, generator=generator(0))
    for place, each in enumerate(symmetries().float()):
        turned, _ = view(images, Strength(), turns=each.expand(8, 2, 2))
        expected = torch.rot90(images, place // 2, (2, 3))
        expected = expected.flip(3) if place % 2 else expected
        torch.testing.assert_close(turned, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("turn", range(8))
def test_a_view_is_a_crop_of_the_turned_image_resized_and_flipped(turn):
    images = smooth()
    strength = Strength(crop=0.5, hflip=True)
    chosen = symmetries().float()[turn].expand(4, 2, 2)
    draws = sample_views(4, strength, (24, 24), generator(3))
    turned, _ = view(images, Strength(), turns=chosen)
    at_once = apply_views(images, draws, strength, turns=chosen)
    torch.testing.assert_close(at_once, apply_views(turned, draws, strength), rtol=0, atol=1e-4)


def test_a_crop_on_whole_pixels_is_resized_as_torch_does():
    images = smooth(1)
    place = torch.tensor([[[0.5, 0, 0.25], [0, 0.5, -0.5]]])  # 12 px from row 0 and column 9
    cropped = apply_views(images, {"place": place}, Strength(crop=0.5))
    expected = nn.functional.interpolate(images[:, :, :12, 9:21], 24, mode="bilinear")
    # At the border of a crop, what lies beyond is read from the image instead of repeated.
    torch.testing.assert_close(cropped[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(24, 24), (17, 32)])
def test_places_are_those_of_an_affine_grid(size):
    maps = torch.randn(5, 2, 3, generator=generator(0))
    grid = nn.functional.affine_grid(maps, [5, 3, *size], align_corners=False)
    torch.testing.assert_close(_places(maps, size), grid, atol=1e-6, rtol=0)


def test_crops_stay_inside_and_their_sides_are_uniform():
    draws = sample_views(4000, Strength(crop=0.5, hflip=True), (20, 20), generator(0))
    place = draws["place"]
    scale = place[:, 1, 1]
    assert set((scale * 20).round().int().tolist()) == set(range(10, 21))
    assert scale.mean() == pytest.approx(0.75, abs=0.01)
    assert ((place[:, :, 2].abs() + scale[:, None]) <= 1 + 1e-6).all()
    assert (place[:, 0, 0] < 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(place[:, 0, 0].abs(), scale)


def test_nothing_is_changed_where_all_is_off():
    images = smooth()
    assert torch.equal(view(images, Strength())[0], images)


def test_colours_are_those_of_torchvision():
    """Contrast about the mean of a channel, as in the source; torchvision takes that of the gray image."""
    images = 0.3 + 0.4 * smooth(3)
    strength = Strength(jitter=0.4)
    changed, draws = view(images, strength, seed=2)
    draws["contrast"] = torch.ones(3)
    draws["brightness"] = torch.zeros(3)
    vivid = apply_views(images, draws, strength)
    gray = tv.rgb_to_grayscale(images)
    torch.testing.assert_close(tv.rgb_to_grayscale(vivid), gray, rtol=0, atol=1e-3)
    draws = sample_views(3, strength, (24, 24), generator(2))
    expected = draws["contrast"][:, None, None, None] * (vivid - vivid.mean((2, 3), keepdim=True))
    expected = expected + vivid.mean((2, 3), keepdim=True) + draws["brightness"][:, None, None, None]
    torch.testing.assert_close(changed, expected, rtol=0, atol=1e-5)


def test_saturation_is_a_blend_with_the_gray_image():
    images = smooth(1)
    colour = sample_views(1, Strength(gray=1.0), (24, 24), generator(0))["colour"]
    draws = {"colour": colour, "contrast": torch.ones(1), "brightness": torch.zeros(1)}
    gray = apply_views(images, draws, Strength(gray=1.0))
    torch.testing.assert_close(gray, tv.rgb_to_grayscale(images, 3), rtol=0, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_works_on_each_image_by_itself(channels):
    images = smooth(5, channels)
    strength = Strength(jitter=0.4, gray=0.5)
    together, draws = view(images, strength)
    for i in range(5):
        alone = apply_views(images[i : i + 1], {name: value[i : i + 1] for name, value in draws.items()}, strength)
        torch.testing.assert_close(alone, together[i : i + 1])
    assert len((together - images).mean((1, 2, 3)).unique()) == 5


def test_gray_images_are_jittered_as_colour_images_of_equal_channels():
    images = smooth(4, 1)
    strength = Strength(crop=0.6, hflip=True, jitter=0.4, gray=0.3)
    gray, _ = view(images, strength)
    colour, _ = view(images.expand(-1, 3, -1, -1), strength)
    torch.testing.assert_close(colour, gray.expand(-1, 3, -1, -1), rtol=0, atol=2e-3)


def test_views_are_channels_last_and_leave_images_alone():
    images = smooth().contiguous(memory_format=torch.channels_last)
    copy = images.clone()
    changed, _ = view(images, Strength(0.5, True, 0.4, 0.2))
    assert changed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, copy)
