import pytest
import torch
import torch.nn.functional as F

import augmentations
from augmentations import InputError
from augmentations.randomness import generator


@pytest.mark.parametrize("side", [1, 7, 32, 100])
@pytest.mark.parametrize("turns", [1, 2, 3, -1])
def test_quarter_turns_of_squares_are_exact(side, turns):
    images = torch.rand(2, 3, side, side)
    rotation = augmentations.make("rotation", angle=90 * turns)
    assert torch.equal(rotation(images, generator(0)), torch.rot90(images, turns, (2, 3)))


def test_angles_are_multiples_of_the_step_but_never_full_turns():
    assert augmentations.make("rotation").angles() == [90, 180, 270]
    assert augmentations.make("rotation", angle=(-90, 90)).angles() == [-90, 90]
    assert augmentations.make("rotation", angle=(-360, 360), step=120).angles() == [-240, -120, 120, 240]
    assert augmentations.make("rotation", angle=(0.5, 1.5), step=1).angles() == [1]
    drawn = augmentations.make("rotation", angle=(0, 359), step=45).sample(3000, (8, 8), generator(0))["angle"]
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == [45, 90, 135, 180, 225, 270, 315]
    assert counts.min() > 350


def test_every_image_draws_its_own_of_the_default_angles():
    drawn = augmentations.make("rotation").sample(400, (64, 64), generator(2))["angle"]
    assert drawn.unique().tolist() == [90, 180, 270]


def test_step_0_is_continuous():
    drawn = augmentations.make("rotation", angle=(10, 30), step=0).sample(500, (8, 8), generator(0))["angle"]
    assert len(drawn.unique()) > 490
    assert drawn.min() >= 10
    assert drawn.max() <= 30


@pytest.mark.parametrize("size", [(33, 33), (24, 40)])
def test_agrees_with_grid_sample_at_any_angle(size):
    height, width = size
    images = torch.rand(1, 3, height, width)
    after = augmentations.make("rotation", angle=37, step=0)(images, generator(0))
    t = torch.deg2rad(torch.tensor(37.0))
    ratio = height / width
    theta = torch.stack(
        (
            torch.stack((t.cos(), -t.sin() * ratio, torch.tensor(0.0))),
            torch.stack((t.sin() / ratio, t.cos(), torch.tensor(0.0))),
        )
    )
    grid = F.affine_grid(theta[None], (1, 3, height, width), align_corners=False)
    expected = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-4)


def test_reflects_rather_than_blackens():
    images = 0.5 + 0.5 * torch.rand(4, 1, 20, 90)
    assert augmentations.make("rotation", angle=(10, 350), step=0)(images, generator(0)).min() >= 0.5 - 1e-6


@pytest.mark.parametrize(
    ("hyperparameters", "said"),
    [
        ({"angle": 0}, "no multiple of the step but full turns"),
        ({"angle": (10, 80)}, "no multiple of the step"),
        ({"angle": 360, "step": 0}, "only the identity"),
        ({"angle": (-45, 45), "step": 90}, "full turns"),
        ({"step": (45, 90)}, "must be one number"),
        ({"step": (90, 90)}, "must be one number"),
    ],
)
def test_refuses_ranges_that_hold_only_the_identity(hyperparameters, said):
    with pytest.raises(InputError, match=said):
        augmentations.make("rotation", **hyperparameters)
