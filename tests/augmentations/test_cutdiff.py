import math

import pytest
import torch

import augmentations
from augmentations.randomness import generator

ENDS = {"area": (0.03, 0.1), "aspect": (0.5, 2.0), "angle": (-30.0, 40.0)}


def test_equals_the_published_formula_pixel_by_pixel():
    augmentation = augmentations.make("cutdiff", angle=(-45, 45))
    parameters = augmentation.sample(2, (20, 30), generator(0))
    images = torch.rand(2, 1, 20, 30)
    after = augmentation.apply(images, parameters)
    for i, row, column in [(0, 3, 4), (0, 10, 15), (1, 9, 20), (1, 19, 29)]:
        x, y, w, h, angle = (float(parameters[key][i]) for key in ("x", "y", "width", "height", "angle"))
        dx, dy, t = column + 0.5 - x, row + 0.5 - y, math.radians(angle)
        u, v = dx * math.cos(t) - dy * math.sin(t), dx * math.sin(t) + dy * math.cos(t)
        mask = math.exp(-((u / w) ** 2) / 0.2 - (v / h) ** 2 / 0.2)
        assert after[i, 0, row, column].item() == pytest.approx(
            max(images[i, 0, row, column].item() - mask, 0), abs=1e-5
        )


def test_sizes_are_not_rounded():
    width = augmentations.make("cutdiff").sample(100, (64, 64), generator(0))["width"]
    assert (width != width.round()).all()


@pytest.mark.parametrize("name", ENDS)
def test_differentiable_in_both_ends(name):
    images = torch.rand(3, 1, 24, 24, dtype=torch.float64, generator=generator(1))
    weights = torch.rand(3, 1, 24, 24, dtype=torch.float64, generator=generator(2))

    def outcome(low, high):
        augmentation = augmentations.make("cutdiff", **(ENDS | {name: (low, high)}))
        return (augmentation(images, generator(0)) * weights).sum()

    ends = [torch.tensor(end, dtype=torch.float64, requires_grad=True) for end in ENDS[name]]
    gradients = torch.autograd.grad(outcome(*ends), ends)
    assert all(gradient.abs() > 1e-6 for gradient in gradients)
    for i, gradient in enumerate(gradients):
        step = 1e-6 * ENDS[name][1]
        above, below = ([end.detach() for end in ends] for _ in range(2))
        above[i], below[i] = above[i] + step, below[i] - step
        difference = (outcome(*above) - outcome(*below)) / (2 * step)
        assert gradient.item() == pytest.approx(difference.item(), rel=1e-4)


def test_float32_ends_get_gradients_too():
    area = torch.tensor(0.1, requires_grad=True)
    augmentations.make("cutdiff", area=(0.02, area))(torch.rand(2, 3, 16, 16), generator(0)).sum().backward()
    assert area.grad.isfinite()
    assert area.grad != 0
