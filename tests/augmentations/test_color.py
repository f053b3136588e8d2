import colorsys
import itertools

import pytest
import torch

from augmentations import InputError
from augmentations.color import CHROMA, LUMA, QUARTER_HUE, YIQ, apply_jitter, sample_jitter
from augmentations.randomness import generator

GREY = torch.tensor([0.299, 0.587, 0.114])


def test_no_jitter_changes_no_bit():
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(apply_jitter(images, sample_jitter(4, (0, 0), generator(0))), images)
    assert torch.equal(apply_jitter(images[:, :1], sample_jitter(4, (0, 0), generator(0))), images[:, :1])


def test_a_quarter_of_hue_twice_is_the_opposite_chroma():
    torch.testing.assert_close(torch.tensor(QUARTER_HUE @ QUARTER_HUE), torch.tensor(-CHROMA))
    assert abs(LUMA @ QUARTER_HUE).max() < 1e-12
    # The published coefficients leave greys grey to their four digits.
    assert abs(QUARTER_HUE.sum(1)).max() < 2e-3
    assert abs(YIQ.sum(1) - [1, 0, 0]).max() < 1e-12


def by_operations(images, brightness, contrast, saturation, hue, order):
    """One operation after another, in the manner of torchvision and PIL, hue as a turn of (I, Q)."""
    yiq = torch.tensor(YIQ)

    def luma(x):
        return torch.einsum("c,chw->hw", GREY.double(), x)

    def turn(x):
        t = torch.tensor(2 * torch.pi * hue, dtype=torch.float64)
        rotation = torch.eye(3, dtype=torch.float64)
        rotation[1:, 1:] = torch.stack((torch.stack((t.cos(), -t.sin())), torch.stack((t.sin(), t.cos()))))
        return torch.einsum("ij,jhw->ihw", torch.linalg.inv(yiq) @ rotation @ yiq, x)

    operations = {
        "b": lambda x: x * brightness,
        "c": lambda x: contrast * x + (1 - contrast) * luma(x).mean(),
        "s": lambda x: saturation * x + (1 - saturation) * luma(x),
        "h": turn,
    }
    for key in order:
        images = operations[key](images)
    return images


def test_equals_the_four_operations_in_any_order():
    images = 0.3 + 0.2 * torch.rand(1, 3, 6, 7, dtype=torch.float64)
    parameters = sample_jitter(1, (0.1, 0.1), generator(3))
    noise = [torch.rand(1, generator=g, dtype=torch.float64) for g in [generator(3)] for _ in range(5)]
    b, c, s, h = (0.1 * (2 * float(x) - 1) for x in noise[1:])
    ours = apply_jitter(images, parameters)
    for order in itertools.permutations("bcsh"):
        expected = by_operations(images[0], 1 + b, 1 + c, 1 + s, h, order)
        torch.testing.assert_close(ours[0], expected, rtol=0, atol=1e-6)


def test_hue_turns_all_colours_the_same_way():
    quarter = torch.tensor(QUARTER_HUE, dtype=torch.float32)
    for colour in torch.eye(3):
        before, after = (0.4 + 0.2 * c for c in (colour, colour + 0.1 * quarter @ colour))
        hues = [colorsys.rgb_to_hsv(*c.tolist())[0] for c in (before, after)]
        assert 0 < (hues[0] - hues[1]) % 1 < 0.1


def test_grey_images_agree_with_their_colour_copies():
    grey = torch.rand(5, 1, 8, 8)
    parameters = sample_jitter(5, (0, 0.3), generator(0))
    as_colour = apply_jitter(grey.expand(-1, 3, -1, -1), parameters)
    for channel in range(3):
        torch.testing.assert_close(apply_jitter(grey, parameters)[:, 0], as_colour[:, channel], rtol=0, atol=1e-6)


def test_strength_bounds_the_change_and_images_differ():
    images = torch.full((200, 3, 2, 2), 0.5)
    parameters = sample_jitter(200, (0.1, 0.1), generator(0))
    changed = apply_jitter(images, parameters)
    # A uniform grey only sees brightness.
    assert (changed - 0.5).abs().max() <= 0.05 + 1e-6
    assert len(changed[:, 0, 0, 0].unique()) > 190


def test_range_dtype_and_refusals():
    images = torch.rand(3, 3, 8, 8)
    parameters = sample_jitter(3, 0.5, generator(0))
    changed = apply_jitter(images.bfloat16(), parameters)
    assert changed.dtype == torch.bfloat16
    assert changed.min() >= 0
    assert changed.max() <= 1
    with pytest.raises(InputError, match="must be in"):
        sample_jitter(3, 0.7, generator(0))
    with pytest.raises(InputError, match="drawn for 2 images"):
        apply_jitter(images[:2], parameters)
