"""The one division of the normal images."""

import itertools

import numpy as np
import pytest
import torch

from augmentations import InputError
from selector.inputs.splits import FEWEST, FEWEST_IMAGES, first_folder, grouped, split


def parts(n, seed=0):
    found = split(n, seed)
    return found.train, found.validation, found.calibration


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
        train, validation, calibration = map(len, parts(n))
        assert abs(validation - 0.15 * n) <= 0.5
        assert validation == calibration
        assert abs(train - 0.7 * n) <= 1


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
    train, validation, calibration = parts(1000)
    for part in (train, validation, calibration):
        assert part.double().mean().item() == pytest.approx(499.5, abs=5 * 1000 / 12**0.5 / len(part) ** 0.5)
        assert not torch.equal(part, part.sort().values)


@pytest.mark.parametrize("n", [0, 1, FEWEST_IMAGES - 1])
def test_too_few_are_refused(n):
    with pytest.raises(InputError, match=f"{n} images: at least 20 are needed"):
        split(n, 0)


def sizes_of_splits(sizes, seed=0):
    """The sizes of the splits of groups of these sizes, which come one after another."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    found = split(len(groups), seed, groups.tolist())
    places = (found.train, found.validation, found.calibration)
    assert torch.cat(places).sort().values.tolist() == list(range(len(groups)))
    groups_of = [set(groups[place]) for place in places]
    assert sum(map(len, groups_of)) == len(sizes)  # and so none is in two splits
    return tuple(map(len, places))


class TestGroups:
    @pytest.mark.parametrize("seed", range(6))
    def test_the_shares_are_as_near_as_groups_allow(self, seed):
        """Against all divisions of few groups."""
        sizes = np.random.default_rng(seed).integers(1, 12, size=8)
        sizes[0] += 14
        n = sizes.sum()
        ways = (
            [sizes[np.array(way) == i].sum() for i in range(3)]
            for way in itertools.product(range(3), repeat=len(sizes))
        )
        fair = round(0.15 * n)
        least = min(
            abs(v - fair) + abs(c - fair)
            for t, v, c in ways
            if all(size >= fewest for size, fewest in zip((t, v, c), FEWEST, strict=True))
        )
        _, validation, calibration = sizes_of_splits(sizes, seed)
        assert abs(validation - fair) + abs(calibration - fair) == least

    def test_groups_of_one_give_the_usual_shares(self):
        assert sizes_of_splits([1] * 100) == tuple(map(len, parts(100)))

    def test_the_seed_decides(self):
        groups = [i // 5 for i in range(200)]
        one, same, other = (split(200, seed, groups) for seed in (3, 3, 4))
        assert torch.equal(one.validation, same.validation)
        assert not torch.equal(one.validation, other.validation)

    def test_every_group_may_be_held_out(self):
        groups = [i // 5 for i in range(60)]
        held_out = {groups[i] for seed in range(60) for i in split(60, seed, groups).calibration.tolist()}
        assert held_out == set(groups)

    def test_the_order_within_a_split_is_random(self):
        train = split(200, 0, [i // 5 for i in range(200)]).train
        assert not torch.equal(train, train.sort().values)

    @pytest.mark.parametrize(
        ("sizes", "message"),
        [
            ([20, 20], "groups: 2 of them: at least 3"),
            ([38, 1, 1], "largest of 38 images: no way.*14 images to train on, 3 images to select with"),
            ([8, 8, 8], "no way"),
        ],
    )
    def test_groups_that_leave_a_split_too_small_are_refused(self, sizes, message):
        with pytest.raises(InputError, match=message):
            sizes_of_splits(sizes)

    def test_groups_are_one_per_image_or_a_function_of_its_name(self):
        names = ["b/1.png", "a/1.png", "b/2.png", "c/d/1.png"]
        assert grouped(["x", 3, "x", None], names) == [0, 1, 0, 2]
        assert grouped(np.array([5, 4, 5, 5]), names) == [0, 1, 0, 0]
        assert grouped(first_folder, names) == [0, 1, 0, 2]

    @pytest.mark.parametrize(
        ("groups", "message"),
        [
            (["a"], "1 of them: must be one for each of the 2 train images"),
            ("ab", "neither a sequence nor a function"),
            ({"x.png": 1, "y.png": 2}, "neither a sequence nor a function"),
            ([[1], [2]], r"groups: \[1\] of x.png: is not hashable"),
            (first_folder, "x.png: lies in no sub-folder"),
        ],
    )
    def test_what_are_no_groups_is_refused(self, groups, message):
        with pytest.raises(InputError, match=message):
            grouped(groups, ["x.png", "y.png"])
