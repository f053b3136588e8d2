"""Numbers of a candidate beside others: by family, and by agreement across kinds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from augmentations.randomness import generator
from detectors import ScorerSpec
from detectors.frozen import FrozenSettings
from selector.evidence.evidence import Evidence
from selector.ranking import comparisons
from selector.ranking.comparisons import COMPARISONS, adjusted_for_family, agreement_across_kinds
from selector.ranking.cross_fit import FOLDS, selections_without_fold
from selector.ranking.ranking import rank
from selector.ranking.rules import ACROSS_KINDS, Rule, resolve_decision
from selector.zoo.candidates import Candidate, Training

FAMILIES = ("cutout", "cutpaste", "rotation", "blur")


def with_gaps(cells):
    """By candidate what is known by family: the i-th lacks the family i modulo their number."""
    n = cells.shape[1]
    return [{f: float(cells[i, f]) for f in range(n) if f != i % n} for i in range(len(cells))]


def test_what_is_missing_does_not_move_an_additive_table():
    source = np.random.default_rng(0)
    candidates, families = source.normal(size=9), source.normal(size=4)
    readings = with_gaps(candidates[:, None] + families)
    parts = adjusted_for_family(readings, [""] * 9, as_ranks=False)
    np.testing.assert_allclose(parts - parts.mean(), candidates - candidates.mean())


def test_the_fit_is_that_of_least_squares():
    source = np.random.default_rng(1)
    readings = with_gaps(source.normal(size=(7, 3)))
    rows, target = [], []
    for i, reading in enumerate(readings):
        for family, value in reading.items():
            rows.append([*(np.arange(7) == i), *(np.arange(3) == family)])
            target.append(value)
    rows.append([0] * 7 + [1] * 3)  # families' parts are 0 on average
    expected = np.linalg.lstsq(np.array(rows, float), np.array([*target, 0.0]), rcond=None)[0][:7]
    np.testing.assert_allclose(adjusted_for_family(readings, [""] * 7, as_ranks=False), expected)


def test_who_lacks_the_hard_family_gains_nothing():
    """The mean over the families that are there would put the second candidate, which is worse on all, first."""
    readings = [{"easy": 0.99, "hard": 0.6}, {"easy": 0.95}, {"easy": 0.9, "hard": 0.5}]
    assert list(np.argsort(-adjusted_for_family(readings, ["a", "b", "c"]))) == [0, 1, 2]


def test_a_candidate_without_any_family_has_no_value():
    assert np.isnan(adjusted_for_family([{"a": 0.5}, {}, {"a": 0.7}], [""] * 3)).tolist() == [False, True, False]


def test_no_monotone_change_of_scores_moves_a_comparison():
    source = torch.Generator().manual_seed(0)
    scores = {name: torch.rand(24, generator=source) + 0.1 for name in ("validation_scores", "test_scores")}
    evidence = Evidence(**scores, pseudo_scores=torch.rand(72, generator=source) + 0.1, pseudo_families=FAMILIES[:3])
    changed = replace(evidence, **{n: (7 * v).exp() for n, v in evidence.items()})
    for comparison in COMPARISONS.values():
        first, second = (comparison.read(e) for e in (evidence, changed))
        assert first == second if isinstance(first, dict) else np.allclose(first, second)


def test_agreement_is_the_mean_of_spearmans_rho_with_other_kinds():
    source = np.random.default_rng(2)
    scores = source.integers(0, 9, (5, 40)).astype(float)  # with ties
    kinds = ["a", "a", "b", "c", "b"]
    readings = [comparisons.ranks(Evidence(test_scores=row)) for row in scores]
    for i, value in enumerate(agreement_across_kinds(readings, kinds)):
        others = [spearmanr(scores[i], scores[j]).statistic for j in range(5) if kinds[j] != kinds[i]]
        assert value == pytest.approx(np.mean(others))
    assert np.isnan(agreement_across_kinds(readings, ["a"] * 5)).all()


def test_rankings_of_many_images_are_compared_on_some_of_them():
    many = torch.arange(3.0 * comparisons.MOST_IMAGES)
    assert len(comparisons.ranks(Evidence(test_scores=many))) == comparisons.MOST_IMAGES


@pytest.fixture
def zoo(candidate):
    """Two kinds: three classifiers and two frozen encoders, whose scores tell anomalies the better the later.

    Every classifier lacks its own family; scores of the frozen ones are on another scale.
    """
    source = torch.Generator().manual_seed(0)
    frozen = [
        Candidate(Training("frozen", FrozenSettings(64, score=score), None, (), 0), ScorerSpec("gaussian"))
        for score in ("pooled", "locations")
    ]
    pool = {}
    for strength, one in enumerate([*(candidate(area) for area in (0.1, 0.2, 0.3)), *frozen]):
        families = FAMILIES if one in frozen else FAMILIES[1:]
        scale = 50 if one in frozen else 1
        test = torch.randn(80, generator=source)
        test[:20] += strength
        pseudo = torch.randn(30 * len(families), generator=source) + strength
        scores = {"validation_scores": torch.randn(30, generator=source), "pseudo_scores": pseudo, "test_scores": test}
        changed = {name: (scale * values / 10).exp() for name, values in scores.items()}
        pool[one] = [Evidence(**changed, pseudo_families=families)]
    return pool


def ranking(zoo, seed=0):
    records = {c.id: {"status": "ok", "reason": ""} for c in zoo}
    rule = resolve_decision("auto", 30).given(is_shifted=False, n_kinds=2)
    return rank(list(zoo), records, {c.id: e for c, e in zoo.items()}, rule, seed)


def test_between_kinds_auto_decides_by_what_compares_them(zoo):
    result = ranking(zoo)
    assert result.rule.names == ACROSS_KINDS
    assert list(result.table.candidate) == [c.id for c in reversed(zoo)]
    assert {*ACROSS_KINDS} <= {*result.table.columns}
    assert [column.name for column in result.criteria if column.name in ACROSS_KINDS] == list(ACROSS_KINDS)
    assert 0 < result.share_first <= 1
    assert result.table.tied[0]


def test_the_order_of_the_candidates_changes_nothing(zoo):
    other = dict(reversed(zoo.items()))
    columns = ["candidate", "criterion", *ACROSS_KINDS]
    assert ranking(zoo).table[columns].equals(ranking(other).table[columns])


def test_a_candidate_that_lacks_what_is_compared_fails(zoo):
    last = list(zoo)[-1]
    zoo[last] = [replace(zoo[last][0], pseudo_scores=None, pseudo_families=())]
    records = {c.id: {"status": "ok", "reason": ""} for c in zoo}
    whole = Rule.of(*ACROSS_KINDS)
    assert whole.supported_by([e[0].available for e in zoo.values()]).names == ("agreement_across_kinds",)
    user = replace(whole, reason="chosen by the user")
    table = rank(list(zoo), records, {c.id: e for c, e in zoo.items()}, user, 0).table
    assert table.status.iloc[-1] == "failed"
    assert table.reason.iloc[-1] == "family_adjusted_auc needs pseudo_scores"


@pytest.mark.parametrize("members", [1, 3, 4])
def test_the_choice_is_repeated_without_test_images(zoo, members):
    """As it is made where these images are not there, in the order and by the complement, over several draws."""
    evidence = {c.id: with_embeddings(e[0], c) for c, e in zoo.items()}
    records = {c.id: {"status": "ok", "reason": ""} for c in zoo}
    chosen = selections_without_fold(list(zoo), records, evidence, resolve_decision("auto", 30), 0, members)
    assert len(chosen) == 80
    folds = generator(0, "jackknife")
    order = torch.randperm(80, generator=folds)
    for fold in range(FOLDS):
        rest = ~torch.isin(torch.arange(80), order[fold::FOLDS])
        without = {i: [e.subset(test_scores=rest, test=rest) for e in draws] for i, draws in evidence.items()}
        expected = ranking({c: without[c.id] for c in zoo}).members(members)
        assert {chosen[row] for row in (~rest).nonzero()[:, 0].tolist()} == {expected}
    assert (len(set(chosen)) > 1) == (members > 1)  # the first is the same, whoever is left out


def with_embeddings(evidence, candidate):
    """Two draws with embeddings, nearly the same of all candidates: a few test images decide whose dsv is lower."""
    common, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(int(candidate.id[:8], 16))
    train, test = torch.randn(20, 5, generator=common), torch.randn(80, 5, generator=common) * 1.5
    test = test + 0.02 * torch.randn(80, 5, generator=own)
    draws = [torch.randn(20, 5, generator=common) + 1 for _ in range(2)]
    return [replace(evidence, train=train, test=test, augmented=augmented) for augmented in draws]


def test_a_rule_with_comparisons_comes_back_from_a_file():
    rule = resolve_decision("auto", 30).given(is_shifted=True, n_kinds=3)
    assert Rule.from_json(rule.to_json()) == rule
