"""What augmentations of whole images, and of smooth parts of them, do exactly."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

import augmentations
from augmentations.blur import blurred
from augmentations.randomness import generator


def images(n=2, side=32):
    return torch.rand(n, 3, side, side, generator=generator(0, "images"))


def test_flips():
    before = images()
    for direction, axes in (("vertical", (2,)), ("horizontal", (3,)), ("both", (2, 3))):
        after = augmentations.make("flip", direction=direction)(before, generator(0))
        assert torch.equal(after, before.flip(axes))


def test_inverting_wholly():
    torch.testing.assert_close(augmentations.make("invert", strength=1)(images(), generator(0)), 1 - images())


def test_blur_is_a_gaussian_where_the_border_is_far():
    before, sigma = images(), torch.tensor([1.0, 2.5])
    after = blurred(before, sigma)
    for i in range(2):
        expected = gaussian_filter(before[i].double().numpy(), (0, *2 * [sigma[i].item()]), truncate=8)
        np.testing.assert_allclose(after[i, :, 14:18, 14:18].numpy(), expected[:, 14:18, 14:18], atol=1e-4)


def test_blur_keeps_what_is_flat():
    torch.testing.assert_close(
        blurred(torch.full((1, 3, 9, 7), 0.3), torch.tensor([2.0])), torch.full((1, 3, 9, 7), 0.3)
    )


def test_a_crop_enlarges():
    slope = torch.linspace(0, 1, 64).expand(4, 1, 64, 64)
    after = augmentations.make("crop", area=0.25, aspect=1)(slope, generator(0))
    steps = after[:, 0, 20, 10:50].diff(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 1 / 63 / 2), atol=1e-4, rtol=0)


def test_a_warp_moves_and_keeps_the_order_of_what_it_moves():
    slope = torch.linspace(0, 1, 64).expand(8, 1, 64, 64)
    after = augmentations.make("warp", angle=0, strength=0.6)(slope, generator(0))
    assert ((after - slope).abs().amax((1, 2, 3)) > 0.01).sum() >= 6  # but for those pushed along the other axis
    assert (after[:, 0].diff(dim=2) >= 0).all()


def test_noise_and_masks_have_the_size_that_they_say():
    grey = torch.full((8, 3, 64, 64), 0.5)
    assert abs((augmentations.make("noise", sigma=0.1)(grey, generator(0)) - grey).std() - 0.1) < 0.002
    assert abs((augmentations.make("mask", share=0.1)(grey, generator(0)) == 0).float().mean() - 0.1) < 0.005


def test_feature_noise_under_a_mask_changes_no_more_than_its_share():
    features = torch.zeros(16, 40, 8, 8)
    after = augmentations.make("masked_feature_noise", threshold=-1, share=0.25)(features, generator(0))
    changed = (after != 0).any(1)
    assert changed.float().mean((1, 2)).max() <= 0.3
    assert changed.flatten(1).any(1).all()
    assert abs(after[changed[:, None].expand_as(after)].std() - 0.5) < 0.02
