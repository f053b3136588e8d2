import pytest
import torch

import augmentations
from augmentations.randomness import generator


def boxes(parameters):
    """(top, bottom, left, right) of each whole-pixel patch."""
    for i in range(len(parameters["x"])):
        w, h = (int(parameters[key][i]) for key in ("width", "height"))
        left, top = int(parameters["x"][i] - w / 2), int(parameters["y"][i] - h / 2)
        yield top, top + h, left, left + w


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["cutout", "cutavg"])
def test_equals_slicing_image_by_image(name, channels):
    augmentation = augmentations.make(name)
    images = torch.rand(20, channels, 50, 70)
    parameters = augmentation.sample(20, (50, 70), generator(0))
    expected = images.clone()
    for image, (top, bottom, left, right) in zip(expected, boxes(parameters), strict=True):
        patch = image[:, top:bottom, left:right]
        patch[:] = 0 if name == "cutout" else patch.mean((1, 2), keepdim=True)
    torch.testing.assert_close(augmentation.apply(images, parameters), expected, rtol=0, atol=1e-6)


def test_rotated_patches_are_black_in_the_middle_and_blend_at_the_border():
    augmentation = augmentations.make("cutout", area=0.1, aspect=1, angle=30)
    images = torch.ones(8, 1, 64, 64)
    after = augmentation(images, generator(0))
    assert (after == 0).flatten(1).any(1).all()
    assert ((after > 0) & (after < 1)).flatten(1).any(1).all()
    torch.testing.assert_close((1 - after).sum((1, 2, 3)), torch.full((8,), 0.1 * 64 * 64), rtol=1e-3, atol=0)


def test_angles_are_counter_clockwise_as_displayed():
    wide = augmentations.make("cutout", area=0.05, aspect=8, angle=30)
    parameters = wide.sample(1, (64, 64), generator(0))
    ys, xs = torch.nonzero(wide.apply(torch.ones(1, 1, 64, 64), parameters)[0, 0] == 0, as_tuple=True)
    # Going right, a patch turned counter-clockwise goes up: rows fall as columns rise.
    assert torch.corrcoef(torch.stack((xs.float(), ys.float())))[0, 1] < -0.9


def test_rotated_cutavg_keeps_a_constant_image():
    images = torch.rand(6, 3, 1, 1).expand(-1, -1, 64, 64)
    after = augmentations.make("cutavg", angle=(-45, 45))(images, generator(0))
    torch.testing.assert_close(after, images, rtol=0, atol=1e-6)


def test_gradient_reaches_the_ranges_of_rotated_patches():
    area = torch.tensor(0.05, requires_grad=True)
    augmentation = augmentations.make("cutout", area=(area, area), angle=(10, 10))
    erased = (1 - augmentation(torch.ones(4, 1, 64, 64), generator(0))).mean()
    (gradient,) = torch.autograd.grad(erased, area)
    # The erased share is the area.
    assert gradient.item() == pytest.approx(1, abs=0.05)
