"""The one division of the normal images."""

import pytest
import torch

from augmentations import InputError
from selector.splits import FEWEST_IMAGES, split


def parts(n, seed=0):
    found = split(n, seed)
    return found.fit, found.validation, found.calibration


@pytest.mark.parametrize("n", [20, 21, 33, 100, 1001])
def test_every_image_is_in_one_split(n):
    assert torch.cat(parts(n)).sort().values.tolist() == list(range(n))


@pytest.mark.parametrize(
    ("n", "sizes"), [(20, (14, 3, 3)), (100, (70, 15, 15)), (1000, (700, 150, 150)), (24, (16, 4, 4))]
)
def test_sizes_are_70_15_15(n, sizes):
    assert tuple(map(len, parts(n))) == sizes


def test_sizes_are_as_near_to_the_shares_as_whole_numbers_allow():
    for n in range(20, 200):
        fit, validation, calibration = map(len, parts(n))
        assert abs(validation - 0.15 * n) <= 0.5
        assert validation == calibration
        assert abs(fit - 0.7 * n) <= 1


def test_the_seed_decides():
    for one, same, other in zip(parts(100, 3), parts(100, 3), parts(100, 4), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_the_callers_global_generator_is_not_touched():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    split(100, 0)
    assert torch.equal(torch.rand(3), expected)


def test_the_order_is_random():
    """Files sorted by day must not end up with the last days as calibration."""
    fit, validation, calibration = parts(1000)
    for part in (fit, validation, calibration):
        assert part.double().mean().item() == pytest.approx(499.5, abs=5 * 1000 / 12**0.5 / len(part) ** 0.5)
        assert not torch.equal(part, part.sort().values)


@pytest.mark.parametrize("n", [0, 1, FEWEST_IMAGES - 1])
def test_too_few_are_refused(n):
    with pytest.raises(InputError, match=f"{n} images: at least 20 are needed"):
        split(n, 0)
