import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import augmentations
from augmentations import InputError
from augmentations.randomness import generator
from augmentations.ranges import Area, Aspect, floats, log_uniform, normalise, uniform


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, (0.1, 0.1)),
        ([0.1, 0.2], (0.1, 0.2)),
        ((0.1, 0.2), (0.1, 0.2)),
        (1, (1.0, 1.0)),
        (torch.tensor(0.5), (0.5, 0.5)),
        ((0.25, torch.tensor(0.5)), (0.25, 0.5)),
    ],
)
def test_accepts(value, expected):
    result = normalise("area", value, Area, (0.02, 0.15))
    assert isinstance(result, tuple)
    assert floats(result) == expected


@pytest.mark.parametrize(
    ("name", "hyperparameters", "message"),
    [
        ("cutout", {"aspect": 0}, "aspect=0: must be > 0; try (0.3, 3.3)"),
        (
            "cutout",
            {"area": (0, 0.1)},
            "area=(0, 0.1): must be in (0, 1], a share of the image; try (0.02, 0.15)",
        ),
        (
            "cutout",
            {"area": (0.3, 0.1)},
            "area=(0.3, 0.1): low must not exceed high; swap the ends: (0.1, 0.3)",
        ),
        ("cutout", {"area": math.nan}, "area=nan: must be finite; try (0.02, 0.15)"),
        (
            "cutdiff",
            {"aspect": math.inf},
            "aspect=inf: must be finite; try (0.3, 3.3)",
        ),
        ("cutpaste", {"jitter": 0.6}, "jitter=0.6: must be in [0, 0.5]; try (0, 0.1)"),
        ("cutpaste", {"angle": "45"}, "angle='45': must be a number or (low, high); try (0, 0)"),
        ("cutpaste", {"angle": (1, 2, 3)}, "angle=(1, 2, 3): must be a number or (low, high); try (0, 0)"),
        ("cutpaste", {"angle": None}, "angle=None: must be a number or (low, high); try (0, 0)"),
        (
            "cutpaste_scar",
            {"angle": (-200, 0)},
            "angle=(-200, 0): must be in [-180, 180] degrees; try (-45, 45)",
        ),
        (
            "cutpaste_union",
            {"scar_area": 2},
            "scar_area=2: must be in (0, 1], a share of the image; try (0.002, 0.014)",
        ),
        ("rotation", {"step": -90}, "step=-90: must be 0 (continuous) or in [1, 360] degrees; try (90, 90)"),
    ],
)
def test_refusals_name_thing_rule_and_remedy(name, hyperparameters, message):
    with pytest.raises(InputError) as refusal:
        augmentations.make(name, **hyperparameters)
    assert str(refusal.value) == message


@given(low=st.floats(-1e3, 1e3, allow_nan=False), width=st.floats(0, 1e3), seed=st.integers(0, 2**32))
def test_uniform_stays_in_its_range(low, width, seed):
    draws = uniform((low, low + width), 50, generator(seed))
    assert draws.min() >= low - 1e-9
    assert draws.max() <= low + width + 1e-9


def test_uniform_and_log_uniform_are_what_they_say():
    draws = uniform((2.0, 5.0), 5000, generator(0))
    assert stats.kstest(draws.numpy(), stats.uniform(2, 3).cdf).pvalue > 0.01
    draws = log_uniform((0.25, 4.0), 5000, generator(0))
    assert stats.kstest(draws.numpy(), stats.loguniform(0.25, 4).cdf).pvalue > 0.01


def test_a_range_changes_no_later_draw():
    # Points keep the stream where ranges do, so that comparing settings compares like with like.
    for value in ((0.1, 0.1), (0.1, 0.9)):
        g = generator(0)
        uniform(value, 10, g)
        after = torch.rand(1, generator=g)
        g = generator(0)
        log_uniform((0.2, 0.3), 10, g)
        assert torch.equal(after, torch.rand(1, generator=g))


def test_draws_are_smooth_in_the_ends():
    low, high = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.5, 2.0))
    for draw in (uniform, log_uniform):
        torch.autograd.gradcheck(lambda a, b, draw=draw: draw((a, b), 4, generator(0)), (low, high))


def test_tensor_ends_become_floats():
    end = torch.tensor(2.0, requires_grad=True)
    augmentation = augmentations.make("cutdiff", aspect=(1.0, end))
    assert augmentation.aspect[1] is end
    assert augmentation.hyperparameters()["aspect"] == (1.0, 2.0)
    with pytest.raises(InputError, match="must be > 0"):
        normalise("aspect", (torch.tensor(-1.0), 1.0), Aspect, (0.3, 3.3))
