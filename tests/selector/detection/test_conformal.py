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
    cross_p_values,
    fewest_rejected,
    min_false_alarm_rate,
    n_supporting,
    p_values,
    score_rounding,
    validate_fdr,
    validate_rate,
    without_rounding,
)
from selector.detection.regions import map_threshold

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


# Groups: only they are exchangeable ---------------------------------------------------------------------------------


def lots(source, n_lots, spread, repeats, sizes=(2, 13)):
    """Scores of calibration images, their lots, and of one image of each of 5 new lots."""
    for _ in range(repeats):
        images = torch.randint(*sizes, (n_lots,), generator=source)
        groups = torch.arange(n_lots).repeat_interleave(images)
        level = spread * torch.randn(n_lots + 5, generator=source)
        noise = torch.randn(len(groups) + 5, generator=source)
        yield noise[:-5] + level[groups], groups.tolist(), noise[-5:] + level[n_lots:]


def most(rate, n):
    """The upper end of the 99% band of a share of n independent images at this rate."""
    return stats.binom.ppf(0.995, n, rate) / n


@pytest.mark.parametrize("spread", [0, 1, 2])
@pytest.mark.parametrize("n_lots", [3, 10, 20])
def test_with_groups_the_realised_rate_is_the_promised_one_or_below(n_lots, spread):
    """Independent repeats, one image of each: what is promised is the mean over calibration sets."""
    source, repeats = torch.Generator().manual_seed(10 * n_lots + spread), 2000
    rates = {validate_rate(None, n_lots, unit="groups"), 0.3}
    drawn = list(lots(source, n_lots, spread, repeats))
    p = torch.cat([p_values(scores, new[:1], groups) for scores, groups, new in drawn])
    for rate in rates:
        assert (p <= rate).sum().item() / repeats <= most(rate, repeats)
    for scores, groups, new in drawn[: repeats // 5]:  # five images of each: as many decisions as above
        flagged = p_values(scores, new, groups)
        for rate in rates:
            assert torch.equal(new.double() > map_threshold(scores, rate, groups), flagged <= rate)


@pytest.mark.parametrize("spread", [0, 2])
def test_in_folds_of_groups_the_realised_rate_is_twice_the_promised_one_at_most(spread):
    """Detectors that do not agree at all: the worst case."""
    source, repeats, rate = torch.Generator().manual_seed(spread), 1500, 0.3
    flagged = 0
    for _ in range(repeats):
        folds = list(lots(source, 4, spread, 5))
        p = cross_p_values([(scores, new[:1]) for scores, _, new in folds], [groups for _, groups, _ in folds])
        flagged += (p <= rate).item()
    assert flagged / repeats <= most(2 * rate, repeats)


def test_images_counted_one_by_one_would_break_the_promise():
    """The fault that groups mend, so that the tests above are seen to have power."""
    source = torch.Generator().manual_seed(0)
    drawn = lots(source, 3, 2, 1000, sizes=(20, 40))
    flagged = [(p_values(scores, new[:1]) <= 0.05).item() for scores, _, new in drawn]
    assert sum(flagged) / 1000 > 1.5 * most(0.05, 1000)


def test_a_group_counts_once():
    calibration, groups = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), [0, 0, 0, 1, 2, 2]
    scores = torch.tensor([0.5, 1.5, 4.0, 4.5, 5.5, 7.0])
    weights = [3, 2 + 2 / 3, 2, 1, 0.5, 0]
    assert p_values(calibration, scores, groups).tolist() == pytest.approx([(1 + w) / 4 for w in weights], abs=1e-12)
    assert p_values(calibration, scores[:1], groups).item() == 1.0
    ungrouped = p_values(calibration, scores)
    assert torch.equal(p_values(calibration, scores, list(range(6))), ungrouped)


def test_a_rate_that_groups_do_not_support_is_refused_with_how_many_would():
    with pytest.raises(InputError, match=r"3 calibration groups support rates from 0\.25 upwards, and it needs 19"):
        validate_rate(0.05, 3, unit="groups")
    assert validate_rate(0.05, 19, unit="groups") == 0.05
    assert validate_rate(None, 3, unit="groups") == 0.25


@given(st.floats(0.001, 0.999), st.integers(1, 6))
def test_how_many_support_a_rate_is_the_fewest(rate, folds):
    n = n_supporting(rate, folds)
    assert min_false_alarm_rate(n, folds) <= rate
    assert n == 0 or min_false_alarm_rate(n - 1, folds) > rate


def test_of_folds_each_adds_one():
    """The mean of the folds' p-values where they are of one size: at most twice too small."""
    source = torch.Generator().manual_seed(0)
    folds = [(torch.rand(4, generator=source), torch.rand(30, generator=source)) for _ in range(5)]
    mean = torch.stack([p_values(*fold) for fold in folds]).mean(0)
    torch.testing.assert_close(cross_p_values(folds), mean)


def test_few_images_in_folds_keep_twice_the_rate():
    """Folds of 4 whose detectors all see the same score as unusual: (1 + count) / (n + 1) had .45 here."""
    source, repeats, rate = torch.Generator().manual_seed(1), 4000, 0.25
    flagged = 0
    for _ in range(repeats):
        folds = [(torch.rand(4, generator=source), torch.rand(1, generator=source)) for _ in range(5)]
        flagged += (cross_p_values(folds) <= rate).item()
    assert flagged / repeats <= most(2 * rate, repeats)
    assert min_false_alarm_rate(20, 5) == 0.2


def test_an_fdr_that_no_image_can_reach_is_refused():
    """100 blatant anomalies and 3 calibration images: none is ever called anomalous at .1."""
    p = p_values(torch.zeros(3), torch.ones(100))
    assert not benjamini_hochberg(p, 0.1).any()
    with pytest.raises(InputError, match=r"fdr=0\.1: the smallest p-value .* is 0\.25.* use 0\.25 or more"):
        validate_fdr(0.1, min_false_alarm_rate(3))
    validate_fdr(0.25, min_false_alarm_rate(3))
    assert benjamini_hochberg(p, 0.25).all()


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.01, 0.9))
def test_so_many_have_to_be_called_anomalous_together(h, n_images, rate):
    fewest = fewest_rejected(rate, min_false_alarm_rate(h), n_images)
    found = []
    for n_anomalous in range(1, n_images + 1):
        scores = torch.zeros(n_images)
        scores[:n_anomalous] = 2.0
        found.append(benjamini_hochberg(p_values(torch.ones(h), scores), rate).any().item())
    assert found == [fewest is not None and n >= fewest for n in range(1, n_images + 1)]


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_what_is_taken_for_rounding_is_no_share_of_how_far_zero_is(offset):
    """Scores may have any zero: a share of their magnitude could be all of their range."""
    calibration = offset + 30 * torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    extent = calibration.max() - calibration.min()
    assert 0 < score_rounding(calibration) <= 1e-3 * extent


def test_one_calibration_image_ties_with_its_copy():
    score = torch.tensor([7.0])
    assert p_values(score, without_rounding(score, score * (1 + 3e-6))).tolist() == [1.0]
