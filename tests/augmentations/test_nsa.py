import pytest
import torch

import augmentations
from augmentations import InputError
from augmentations.nsa import _border, _harmonic
from augmentations.partners import partners
from augmentations.randomness import generator


def test_a_partner_is_never_the_image_itself_and_any_other_is_equally_likely():
    images = torch.arange(5.0).view(5, 1, 1, 1)
    for partner, shift in ((0.0, 1), (0.3, 2), (0.6, 3), (0.999999, 4), (1.0, 4)):
        given = partners(images, torch.full((5,), partner)).flatten()
        assert given.tolist() == [(i + shift) % 5 for i in range(5)]


def test_an_image_that_is_alone_gives_its_own_patch():
    image = torch.rand(1, 3, 32, 32, generator=generator(0))
    assert torch.equal(partners(image, torch.tensor([0.7])), image)
    assert not torch.equal(augmentations.make("nsa")(image, generator(0)), image)


def test_the_correction_of_a_linear_difference_is_linear():
    u, v = torch.as_tensor(_border())
    solved = torch.as_tensor(_harmonic()) @ (2 * u - v + 1)
    line = torch.linspace(-1, 1, 17, dtype=torch.float64)
    torch.testing.assert_close(solved.view(17, 17), 2 * line - line[:, None] + 1, atol=1e-9, rtol=0)


def test_a_seamless_patch_of_a_shifted_image_cannot_be_seen():
    # Its gradients are the image's own, so that nothing but the brightness differs, which the blending takes away.
    slope = torch.linspace(0.2, 0.6, 48).expand(1, 1, 48, 48)
    images = torch.cat([slope, slope + 0.2])
    seamless = augmentations.make("nsa", scale=1)(images, generator(0))
    torch.testing.assert_close(seamless, images, atol=5e-3, rtol=0)  # half a pixel of the slope, at the image's border
    soft = augmentations.make("nsa", scale=1, blend="soft")(images, generator(0))
    assert (soft - images).abs().amax((1, 2, 3)).min() > 0.05


def test_a_source_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="the place that a patch comes from must fit"):
        augmentations.make("nsa", area=0.1, scale=0.25).check((64, 64))
