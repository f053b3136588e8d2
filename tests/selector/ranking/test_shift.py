"""The tests of a shift and of anomalies: size and power on simulated scores, exact small cases, invariances."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import binom

from selector import load, select_best
from selector.ranking.rules import UNDER_SHIFT
from selector.ranking.shift import (
    LEVEL,
    ShiftTest,
    precedence_test,
    savage_score_test,
    shift_and_anomaly_tests,
    shift_test,
)

CANDIDATES = 12
ROUNDS = 200


def scores(
    source: torch.Generator, n: int, shift: float | torch.Tensor = 0.0, candidates: int = CANDIDATES
) -> torch.Tensor:
    """Rows of normal scores, correlated .5 between candidates."""
    common, own = torch.randn(n, 1, generator=source), torch.randn(n, candidates, generator=source)
    return (common + own) / math.sqrt(2) + shift


def images(seed: int, h: int = 62, k: int = 200, share: float = 0.0, shift: float | torch.Tensor = 0.0, high=3.0):
    """Validation scores and test scores, of which a share lies ``high`` above the (shifted) normal ones."""
    source = torch.Generator().manual_seed(seed)
    test = scores(source, k, shift)
    test[: round(share * k)] += high
    return scores(source, h), test


def found(**setting) -> float:
    """The share of rounds in which a shift is found."""
    return float(np.mean([shift_test(*images(seed, **setting)).is_shifted for seed in range(ROUNDS)]))


def most(rate: float) -> float:
    """The share of rounds that chance exceeds once in a thousand."""
    return float(binom.ppf(0.999, ROUNDS, rate)) / ROUNDS


class TestShift:
    @pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5])
    @pytest.mark.parametrize("high", [-1e9, 1.0, 1e9])
    def test_its_size_is_at_most_the_level_whatever_anomalies_score(self, share, high):
        assert found(share=share, high=high) <= most(LEVEL)

    def test_with_one_candidate_and_half_of_the_images_far_off_its_size_is_near_the_level(self):
        """The worst case of the null hypothesis: were the bound loose there, the test would waste power."""
        rounds, hits = 1000, 0
        for seed in range(rounds):
            source = torch.Generator().manual_seed(seed)
            test = torch.cat([scores(source, 100, candidates=1), torch.full((100, 1), 1e9)])
            hits += shift_test(scores(source, 61, candidates=1), test).is_shifted
        assert LEVEL / 5 < hits / rounds <= LEVEL  # of two sides only one can be empty

    @pytest.mark.parametrize(
        ("setting", "least"),
        [
            ({"shift": 2.0}, 0.99),
            ({"shift": 1.0}, 0.75),
            ({"shift": -1.0}, 0.75),
            ({"shift": 1.0, "share": 0.2}, 0.9),
            ({"shift": 2.0, "h": 23, "k": 60}, 0.95),
            ({"shift": torch.linspace(-1.5, 1.5, CANDIDATES)}, 0.9),  # candidates see it differently
        ],
    )
    def test_what_it_finds(self, setting, least):
        assert found(**setting) >= least

    @pytest.mark.parametrize("setting", [{"shift": 0.5}, {"shift": -2.0, "share": 0.5}])
    def test_what_it_misses_as_its_docstring_says(self, setting):
        assert found(**setting) <= 0.1

    def test_its_p_value_counts_orders(self):
        """Every way of mixing 5 validation with 4 normal scores, the other 4 test images being higher."""
        for below in range(5):
            ways = [set(rows) for rows in combinations(range(9), 5)]
            reached = sum(sum(i < sorted(rows)[2] for i in set(range(9)) - rows) <= below for rows in ways)
            validation = torch.arange(5.0)[:, None]
            test = torch.cat([torch.full((below,), 1.5), torch.full((8 - below,), 9.0)])[:, None]
            p, share = precedence_test(validation, test)
            assert p[0] == pytest.approx(reached / len(ways))
            assert share[0] == below / 8

    def test_ties_are_no_sign_of_a_shift(self):
        assert shift_test(torch.ones(30, 3), torch.ones(50, 3)).shift_p_value == 1.0

    def test_it_says_which_side_and_how_many_see_it(self):
        shift = torch.tensor([4.0] * 3 + [0.0] * 9)
        seen = shift_test(*images(0, shift=shift))
        assert (seen.is_higher, seen.n_shifted, seen.n_candidates) == (True, 3, 12)
        assert seen.share < 0.05
        mirrored = shift_test(*images(0, shift=-shift))
        assert (mirrored.is_higher, mirrored.n_shifted) == (False, 3)


class TestSavageScores:
    def test_its_size_is_the_level_for_many_dependent_candidates(self):
        p = np.array([savage_score_test(*images(seed, h=20, k=30), seed) for seed in range(ROUNDS)])
        for level in (LEVEL, 0.3, 0.7):
            assert 1 - most(1 - level) <= (p <= level).mean() <= most(level)

    @pytest.mark.parametrize(("setting", "least"), [({"share": 0.2}, 0.95), ({"share": 0.1}, 0.6)])
    def test_what_it_finds(self, setting, least):
        p = [savage_score_test(*images(seed, **setting), seed) for seed in range(40)]
        assert np.mean(np.array(p) <= LEVEL) >= least

    def test_one_candidate_that_sees_them_is_enough(self):
        validation, test = images(0)
        assert savage_score_test(validation, test, 0) > LEVEL
        test[:40, 7] += 5
        assert savage_score_test(validation, test, 0) <= LEVEL

    def test_lower_scores_are_no_evidence_of_anomalies(self):
        validation, test = images(0)
        assert savage_score_test(validation, test - 5, 0) == 1.0

    def test_few_perfect_ones_may_be_chance(self):
        """2 of 60 above all others: chance puts both among the test images in (60/90)(59/89) = .44 of all orders."""
        test = torch.cat([torch.arange(58.0) / 2, torch.tensor([1e3, 2e3])])[:, None]
        assert savage_score_test(torch.arange(30.0)[:, None], test, 0) > LEVEL


def test_order_of_images_and_candidates_and_monotone_maps_change_nothing():
    validation, test = images(0, h=30, k=80, share=0.1)
    test[:5] = validation[:5]  # ties
    seen = shift_and_anomaly_tests(validation, test, 0)
    source = torch.Generator().manual_seed(1)
    old, new, columns = (torch.randperm(n, generator=source) for n in (30, 80, CANDIDATES))
    assert shift_and_anomaly_tests(validation[old][:, columns], test[new][:, columns], 0) == seen
    assert shift_and_anomaly_tests(validation.double().exp(), test.double().exp(), 0) == seen
    assert shift_and_anomaly_tests(validation, test, 0) == seen


def test_without_a_test_nothing_is_claimed():
    none = ShiftTest(reason="no test images were given")
    assert not none.is_shifted
    assert not none.no_evidence_of_anomalies


@pytest.fixture(scope="module")
def shifted_run(stripes, scratched, tmp_path_factory):
    """Normal images of before, and test images of a camera that makes more noise."""
    test = torch.cat([stripes(50, 5), scratched(10)])
    test = (test + 0.3 * torch.randn(test.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    out = tmp_path_factory.mktemp("shifted") / "run"
    return select_best(stripes(160), test, {"cutout": [{}], "cutpaste": [{}]}, preset="tiny", jobs=1, out=out)


def test_a_run_whose_test_images_are_shifted_says_so_and_falls_back(shifted_run):
    assert shifted_run.result.comparison.is_shifted
    assert shifted_run.result.rule.names == UNDER_SHIFT
    assert any(sentence.startswith("Warning: validation images do not resemble") for sentence in shifted_run.verdict)


def test_a_loaded_run_says_the_same(shifted_run):
    again = load(shifted_run.path)
    assert again.result.comparison == shifted_run.result.comparison
    assert again.verdict == shifted_run.verdict


def test_its_report_shows_it(shifted_run, tmp_path):
    page = shifted_run.report(tmp_path)
    assert "validation images do not resemble the normal test images" in page.read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["comparison"]["shift_p_value"] == shifted_run.result.comparison.shift_p_value
