"""Which differences pu_auc resolves: its standard error against simulations, and the images that a difference needs."""

from math import sqrt

import pytest
import torch
from scipy.stats import mannwhitneyu, norm

from augmentations import InputError
from benchmarks.studies.sample_size import correlations, images_needed, smallest_difference, standard_error
from selector.criteria import probability_above

REPEATS = 4000


def simulated(separations, ratio, n_validation, n_test, seed=0, shared=0.0):
    """pu_auc (repeats,) of every candidate: normal scores of variance 1, anomalies this far above them, a share of
    the images anomalous; candidates share so much of the variance."""
    source = torch.Generator().manual_seed(seed)
    is_anomalous = torch.rand(REPEATS, n_test, generator=source) < ratio
    common = [torch.randn(REPEATS, n, generator=source) for n in (n_validation, n_test)]
    found = []
    for separation in separations:
        v, t = (sqrt(shared) * c + sqrt(1 - shared) * torch.randn(c.shape, generator=source) for c in common)
        found.append(torch.vmap(probability_above)(v, t + separation * is_anomalous))
    return found


@pytest.mark.parametrize(("ratio", "separation"), [(0.0, 0.0), (0.05, 2.0), (0.2, 1.0), (0.2, 3.0), (0.5, 1.0)])
@pytest.mark.parametrize(("n_validation", "n_test"), [(20, 60), (60, 20), (100, 100)])
def test_the_standard_error_is_that_of_simulations(ratio, separation, n_validation, n_test):
    (found,) = simulated([separation], ratio, n_validation, n_test)
    expected = standard_error(found.mean().item(), n_validation, n_test)
    assert found.std().item() == pytest.approx(expected, rel=0.08)


def test_at_one_half_it_is_the_standard_error_of_mann_and_whitney():
    x, y = torch.arange(7) * 10.0, torch.tensor([-5.0, 1, 11, 12, 64, 65])
    statistic, p = mannwhitneyu(x, y, method="asymptotic", use_continuity=False)
    z = abs(statistic / (7 * 6) - 0.5) / standard_error(0.5, 7, 6)
    assert 2 * norm.sf(z) == pytest.approx(p)


def test_the_better_candidate_comes_first_as_often_as_promised():
    ratio, n_validation, n_test, shared = 0.3, 80, 120, 0.5
    worse, better = simulated([0.6, 1.4], ratio, n_validation, n_test, shared=shared)
    aurocs = torch.special.ndtr(torch.tensor([0.6, 1.4], dtype=torch.float64) / sqrt(2))
    correlation = torch.corrcoef(torch.stack([worse, better]))[0, 1].item()
    first = (better > worse).double().mean().item()
    difference = smallest_difference(ratio, n_validation, n_test, correlation, confidence=first)
    assert difference == pytest.approx((aurocs[1] - aurocs[0]).item(), rel=0.1)


def test_the_correlation_of_two_candidates_is_that_of_simulations():
    found = torch.corrcoef(torch.stack(simulated([1.0, 1.0], 0.2, 40, 60, shared=0.6)))[0, 1].item()
    source = torch.Generator().manual_seed(1)
    estimates = []
    for _ in range(200):
        is_anomalous = (torch.rand(60, 1, generator=source) < 0.2).double()
        v, t = (
            sqrt(0.6) * torch.randn(n, 1, generator=source) + sqrt(0.4) * torch.randn(n, 2, generator=source)
            for n in (40, 60)
        )
        estimates.append(correlations(v, t + is_anomalous)[0, 1])
    assert torch.stack(estimates).mean().item() == pytest.approx(found, abs=0.03)


def test_a_candidate_agrees_with_itself_and_one_turned_round_with_its_opposite():
    source = torch.Generator().manual_seed(0)
    v, t = torch.randn(30, 1, generator=source), torch.randn(50, 1, generator=source)
    found = correlations(torch.cat([v, 2 * v, -v], 1), torch.cat([t, 2 * t, -t], 1))
    assert found.tolist() == [pytest.approx(row) for row in ([1, 1, -1], [1, 1, -1], [-1, -1, 1])]


@pytest.mark.parametrize("difference", [0.02, 0.2])
@pytest.mark.parametrize("ratio", [0.05, 0.5])
def test_so_many_images_are_just_enough(difference, ratio):
    n = images_needed(difference, ratio, 0.5)
    assert smallest_difference(ratio, n, n, 0.5) <= difference < smallest_difference(ratio, n - 1, n - 1, 0.5)


def test_half_the_ratio_needs_four_times_the_images():
    assert images_needed(0.1, 0.1, 0.5) / images_needed(0.1, 0.2, 0.5) == pytest.approx(4, rel=0.01)


def test_impossible_numbers_are_refused():
    for wrong in ({"ratio": 0.0}, {"correlation": 1.0}, {"confidence": 1.0}, {"difference": 0.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            images_needed(**{"difference": 0.1, "ratio": 0.2, "correlation": 0.5} | wrong)
    with pytest.raises(InputError, match="probability"):
        standard_error(1.5, 10, 10)
    with pytest.raises(InputError, match="images"):
        smallest_difference(0.2, 0, 10, 0.5)
