"""Split-conformal p-values: against their definition, under ties, and by simulation."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from augmentations import InputError
from selector.detection.conformal import (
    DEFAULT_FALSE_ALARM_RATE,
    benjamini_hochberg,
    min_false_alarm_rate,
    p_values,
    validate_rate,
)

numbers = st.floats(-100, 100, width=32)
few = st.integers(0, 4).map(float)  # so that ties are the rule


def naive(calibration, score):
    return (1 + sum(value >= score for value in calibration)) / (len(calibration) + 1)


@given(st.lists(numbers | few, min_size=1, max_size=30), st.lists(numbers | few, min_size=1, max_size=10))
def test_they_are_as_defined(calibration, scores):
    found = p_values(torch.tensor(calibration), torch.tensor(scores))
    assert found.tolist() == [naive(calibration, score) for score in scores]
    assert found.dtype == torch.float64


def test_by_hand():
    calibration = torch.tensor([3.0, 1.0, 2.0, 2.0])
    scores = torch.tensor([0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5])
    assert p_values(calibration, scores).tolist() == [n / 5 for n in (5, 5, 4, 4, 2, 2, 1)]


def test_calibration_images_that_all_score_the_same():
    calibration = torch.full((19,), 7.0)
    assert p_values(calibration, torch.tensor([6.9, 7.0, 7.1])).tolist() == [1.0, 1.0, 1 / 20]


@given(st.lists(numbers, min_size=1, max_size=30), st.lists(numbers, min_size=2, max_size=10))
def test_a_higher_score_never_has_a_higher_p_value(calibration, scores):
    found = p_values(torch.tensor(calibration), torch.tensor(sorted(scores)))
    assert (found.diff() <= 0).all()
    assert (found >= min_false_alarm_rate(len(calibration))).all()
    assert (found <= 1).all()


def test_the_order_and_strides_of_scores_do_not_matter():
    calibration, scores = torch.rand(50), torch.rand(40)
    assert torch.equal(p_values(calibration.flip(0), scores[::2]), p_values(calibration, scores)[::2])


def test_double_scores_against_single_calibration_never_get_smaller_p_values():
    """Rounding a score down to a calibration score may only make the decision more careful."""
    calibration = torch.tensor([1.0, 2.0, 3.0])
    above = torch.tensor([3.0 + 1e-12], dtype=torch.float64)
    below = torch.tensor([3.0 - 1e-12], dtype=torch.float64)
    assert p_values(calibration, above).item() >= naive([1.0, 2.0, 3.0], above.item())
    assert p_values(calibration, below).item() == naive([1.0, 2.0, 3.0], below.item())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("h", "rate"), [(19, 0.05), (30, 0.1), (99, 0.05), (9, 0.1)])
def test_normal_images_are_called_anomalous_at_the_rate(h, rate, tied):
    """Exchangeable scores. Without ties, the share of k normal images at or below a rate is beta-binomial:
    Beta(l, h + 1 - l) with l = floor(rate (h + 1)) (Vovk, 2012), whose mean is l / (h + 1) <= rate."""
    repeats, k = 2000, 50
    source = torch.Generator().manual_seed(h)
    drawn = torch.rand(repeats, h + k, generator=source, dtype=torch.float64)
    if tied:
        drawn = (5 * drawn).floor()
    alarms = torch.tensor([(p_values(row[:h], row[h:]) <= rate).sum().item() for row in drawn])
    level = math.floor(rate * (h + 1) + 1e-9)
    law = stats.betabinom(k, level, h + 1 - level)
    band = 4 * law.std() / math.sqrt(repeats)
    if tied:
        assert alarms.double().mean() <= law.mean() + band
    else:
        assert alarms.double().mean().item() == pytest.approx(law.mean(), abs=band)
        assert alarms.double().std().item() == pytest.approx(law.std(), rel=0.1)
    assert law.mean() / k <= rate


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, math.nan, math.inf, -math.inf])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(InputError, match="between 0 and 1; try"):
        validate_rate(rate, 100)


@pytest.mark.parametrize("n", [3, 9, 12, 19, 99, 999])
def test_a_rate_that_the_calibration_images_do_not_support_is_refused_with_one_that_they_do(n):
    with pytest.raises(InputError, match=f"{n} calibration images") as error:
        validate_rate(0.9 / (n + 1), n)
    suggested = float(error.value.remedy.split()[1])
    assert validate_rate(suggested, n) == suggested
    assert suggested < min_false_alarm_rate(n) + 0.001


def test_the_smallest_rate_is_one_that_can_be_reached():
    for n in range(1, 300):
        rate = validate_rate(min_false_alarm_rate(n), n)
        assert (p_values(torch.zeros(n), torch.ones(1)) <= rate).all()


def test_the_default_is_a_twentieth_or_the_smallest():
    assert validate_rate(None, 100) == DEFAULT_FALSE_ALARM_RATE == 0.05
    assert validate_rate(None, 19) == 0.05
    assert validate_rate(None, 3) == 0.25


def test_benjamini_hochberg_agrees_with_scipy():
    source = torch.Generator().manual_seed(3)
    for n in (1, 2, 7, 40):
        for _ in range(20):
            p = torch.rand(n, generator=source, dtype=torch.float64) ** 3
            for rate in (0.05, 0.2, 0.5):
                expected = stats.false_discovery_control(p.numpy(), method="bh") <= rate
                assert benjamini_hochberg(p, rate).tolist() == expected.tolist()


def test_benjamini_hochberg_keeps_its_promise_with_conformal_p_values():
    """The share of false discoveries, averaged over repetitions, when a fifth of the images is anomalous."""
    source = torch.Generator().manual_seed(4)
    shares = []
    for _ in range(300):
        calibration = torch.randn(200, generator=source)
        scores = torch.randn(100, generator=source)
        scores[:20] += 4
        found = benjamini_hochberg(p_values(calibration, scores), 0.2)
        shares.append((found[20:].sum() / found.sum().clamp(min=1)).item())
    assert sum(shares) / len(shares) <= 0.2


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, float("nan")])
def test_a_false_discovery_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(InputError, match="fdr="):
        benjamini_hochberg(torch.rand(3), rate)
