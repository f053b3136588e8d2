"""Candidates as they are evaluated: guards, what can't be computed, kinds without pseudo anomalies, and shifts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binom

from selector.criteria import get, names
from selector.evidence.evidence import Evidence
from selector.ranking import evaluation
from selector.ranking.evaluation import COLLAPSE_AUROC
from selector.ranking.rules import AUTO, UNDER_SHIFT, Rule, resolve_decision
from selector.ranking.shift import LEVEL
from selector.verdict.verdict import sentences


def test_collapsed_candidates_come_after_the_trained_and_failed_ones_last(pool, candidate, evidence, ranked):
    collapsed, failed = candidate(0.2), candidate(0.3)
    pool = {failed: None, collapsed: evidence(shift=9.0, learned=0.0), **pool}
    table = ranked(pool, Rule.of("score_shift")).table
    assert table.candidate.tolist()[-2:] == [collapsed.id, failed.id]
    assert table.status.tolist() == ["ok"] * 3 + ["collapsed", "failed"]
    assert str(COLLAPSE_AUROC) in table.reason[3]
    assert table.reason[4] == "it burst"
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]


def test_a_criterion_that_is_not_finite_never_wins(pool, candidate, evidence, ranked):
    broken = candidate(0.4)
    constant = torch.ones(100)
    pool = {broken: evidence(scores=constant), **pool}
    table = ranked(pool, Rule.of("score_otsu")).table
    assert table.candidate.iloc[-1] == broken.id
    assert "score_otsu is not finite" in table.reason.iloc[-1]


@pytest.mark.parametrize("name", ["validation_scores", "test_scores"])
def test_a_constant_scorer_failed(pool, name, candidate, evidence, ranked):
    constant = candidate(0.4)
    flat = [replace(e, **{name: torch.full_like(getattr(e, name), 2.5)}) for e in evidence(shift=9.0)]
    table = ranked({constant: flat, **pool}, Rule.of("pseudo_auc")).table
    assert table.candidate.iloc[-1] == constant.id
    assert table.status.iloc[-1] == "failed"
    assert table.reason.iloc[-1] == f"all {name.replace('_', ' ')} are equal"


def test_what_cannot_be_computed_is_no_number_and_says_why(pool, candidate, evidence, ranked):
    """A median test score of 0, which rtm divides by, makes it infinite."""
    odd = candidate(0.4)
    scores = torch.cat([torch.zeros(60), torch.arange(1.0, 41)])
    zeros = [replace(e, test_scores=scores, score_is_distance=False) for e in evidence(seed=5)]
    table = ranked({odd: zeros, **pool}, Rule.of("score_shift")).table.set_index("candidate")
    assert table.status[odd.id] == "ok"
    assert table.reason[odd.id] == "rtm is not finite"
    assert math.isnan(table.rtm[odd.id])
    assert (table.reason.drop(odd.id) == "").all()
    without = [replace(e, pseudo_scores=None) for e in evidence(seed=5)]
    mixed = ranked({odd: without, **pool}, Rule.of("rtm")).table.set_index("candidate")
    assert mixed.reason[odd.id] == "pseudo_auc, npd need pseudo_scores"


def test_a_criterion_whose_evidence_no_candidate_has_is_absent_and_says_why(candidate, evidence, ranked):
    pool = {candidate(0.01 * i): [replace(e, pseudo_scores=None) for e in evidence(seed=i)] for i in (1, 2)}
    result = ranked(pool, Rule.of("rtm"))
    assert not {"npd", "pseudo_auc"} & set(result.table.columns)
    assert result.absent.keys() == {"npd", "pseudo_auc"}
    assert "pseudo_scores" in result.absent["npd"]
    failed = ranked(pool, Rule.of("npd")).table
    assert failed.status.tolist() == ["failed"] * 2
    assert "npd needs pseudo_scores" in failed.reason[0]


def test_without_any_usable_criterion_what_has_a_detector_comes_first(candidate, evidence, ranked):
    never, constant = candidate(0.1), candidate(0.2)
    table = ranked({never: None, constant: evidence(scores=torch.ones(100))}, Rule.of("score_otsu")).table
    assert table.candidate.tolist() == [constant.id, never.id]
    assert table.status.tolist() == ["failed", "failed"]


class TestShift:
    """Test images against validation images: by the candidates that can be trusted."""

    def test_a_shift_that_candidates_see_is_reported_and_auto_falls_back(self, pool, ranked):
        shifted = {c: [replace(e, test_scores=e.test_scores * 20) for e in draws] for c, draws in pool.items()}
        shift = evaluation.test_for_shift(shifted.values(), seed=0)
        assert shift.is_shifted
        assert shift.is_higher
        assert (shift.n_shifted, shift.n_candidates) == (3, 3)
        decide = resolve_decision("auto", 30).given(shift.is_shifted)
        assert decide.names == UNDER_SHIFT
        result = replace(ranked(shifted, decide), comparison=shift)
        message = sentences(result, *list(pool)[:2])[-1]
        assert message.startswith("Warning: validation images do not resemble the normal test images")
        left = "to Borda over rtm, npd and score_skewness, which does not compare their level"
        assert f"so it was left {left}" in message
        for criterion in ("score_shift", "rtm"):
            by_hand = replace(result, rule=Rule.from_json(resolve_decision(criterion, 30).normal.to_json()))
            assert f'"auto" would leave it {left}' in sentences(by_hand, *list(pool)[:2])[-1]

    def test_what_decides_under_a_shift_sees_no_shift_of_levels(self, pool, ranked):
        """Test scores of each candidate in multiples of its own, as another lamp may make them: the order stays."""
        moved = {
            c: [replace(e, test_scores=e.test_scores * 3.0**place) for e in draws]
            for place, (c, draws) in enumerate(pool.items())
        }
        usual, shifted = (ranked(candidates, Rule.of(*UNDER_SHIFT)).table for candidates in (pool, moved))
        assert usual.candidate.tolist() == shifted.candidate.tolist()
        assert usual.criterion.tolist() == shifted.criterion.tolist()
        levels = [ranked(candidates, Rule.of("score_q95")).table for candidates in (pool, moved)]
        assert levels[0].criterion.tolist() != levels[1].criterion.tolist()

    def test_without_one_auto_is_what_it_was(self, pool):
        assert not evaluation.test_for_shift(pool.values(), seed=0).is_shifted
        assert resolve_decision("auto", 30).normal.names == AUTO
        assert resolve_decision("dsv", 30).under_shift.names == ("dsv",)
        assert resolve_decision("auto", 30, False).under_shift.names == resolve_decision("auto", 30, False).normal.names

    def test_no_evidence_of_anomalies_is_reported(self, pool, evidence, ranked):
        usual = {c.id: evidence(shift=0.0, seed=3) for c in pool}
        shift = evaluation.test_for_shift(usual.values(), seed=0)
        assert shift.no_evidence_of_anomalies
        result = replace(ranked(pool, Rule.of("rtm")), comparison=shift)
        assert sentences(result, *list(pool)[:2])[-1].startswith("There is no evidence of anomalies in the test images")
        clear = evaluation.test_for_shift(pool.values(), seed=0)
        assert not clear.no_evidence_of_anomalies

    def test_who_takes_part_does_not_depend_on_which_images_are_test_images(self, pool, evidence):
        """One that collapsed takes part; one with a score that is not finite does not, in whichever set, nor one that
        scores all images of both alike."""
        alone = evaluation.test_for_shift(pool.values(), seed=0)
        collapsed = evaluation.test_for_shift([*pool.values(), evidence(learned=-1.0)], seed=0)
        assert collapsed.n_candidates == alone.n_candidates + 1
        for name, n in (("validation_scores", 30), ("test_scores", 100)):
            constant = [replace(e, **{name: torch.ones(n)}) for e in evidence()]
            assert evaluation.test_for_shift([*pool.values(), constant], seed=0).n_candidates == 4
            broken = [replace(e, **{name: torch.full((n,), torch.inf)}) for e in evidence()]
            assert evaluation.test_for_shift([*pool.values(), broken], seed=0) == alone
        blind = [replace(e, validation_scores=torch.ones(30), test_scores=torch.ones(100)) for e in evidence()]
        assert evaluation.test_for_shift([*pool.values(), blind], seed=0) == alone
        assert "no candidate scores one image" in evaluation.test_for_shift([blind], seed=0).reason

    def test_evidence_of_anomalies_has_the_size_of_its_level_where_candidates_collapse_by_chance(self):
        """Candidates that learned nothing: half of them collapse, by how they score the validation images."""

        def p_value(seed):
            source = torch.Generator().manual_seed(seed)
            validation, augmented, test = (torch.randn(12, n, generator=source) for n in (20, 20, 30))
            return evaluation.test_for_shift(
                (
                    [Evidence(validation_scores=v, augmented_scores=a, test_scores=t)]
                    for v, a, t in zip(validation, augmented, test, strict=True)
                ),
                seed,
            ).anomaly_p_value

        rounds = 200
        share = np.mean([p_value(seed) <= LEVEL for seed in range(rounds)])
        assert share <= binom.ppf(0.995, rounds, LEVEL) / rounds

    def test_too_little_to_compare_is_reported(self, pool):
        few = {c.id: [e.subset(validation_scores=torch.arange(19)) for e in draws] for c, draws in pool.items()}
        assert "19 validation images are fewer than 20" in evaluation.test_for_shift(few.values(), seed=0).reason
        usual, groups = [e[:1] for e in pool.values()], [i % 18 for i in range(30)]
        assert "18 groups of validation images are fewer than 19" in evaluation.test_for_shift(usual, 0, groups).reason
        assert not evaluation.test_for_shift(usual, 0, range(30)).reason
        inductive = {c.id: [replace(e, test_scores=None) for e in draws] for c, draws in pool.items()}
        assert evaluation.test_for_shift(inductive.values(), seed=0).reason == "no test images were given"


OWN_PSEUDO_ANOMALIES = {"augmented": None, "augmented_scores": None}


def without_pseudo_anomalies(draws):
    """The evidence of a kind that learns against nothing: there is nothing to draw."""
    return [replace(draws[0], **OWN_PSEUDO_ANOMALIES)]


@pytest.mark.filterwarnings("error")
class TestKindsWithoutPseudoAnomalies:
    """Candidates with pseudo anomalies of their own and candidates without any are ranked together."""

    @pytest.fixture
    def mixed(self, pool):
        first, second, third = pool
        return {first: pool[first], second: without_pseudo_anomalies(pool[second]), third: pool[third]}

    def test_auto_is_decided_by_what_all_support(self, pool, mixed, ranked, order):
        result = ranked(mixed, Rule.of(*AUTO))
        assert result.rule.names == AUTO
        assert result.table.status.tolist() == ["ok"] * 3
        assert result.table.candidate.tolist() == order(pool, Rule.of(*AUTO))
        assert result.margin_spread >= 0

    def test_what_only_some_support_has_no_value_for_the_others_and_says_why(self, mixed, ranked):
        lacking = list(mixed)[1].id
        table = ranked(mixed, Rule.of(*AUTO)).table.set_index("candidate")
        needing = [name for name in names() if "augmented" in get(name).needs]
        assert table.loc[lacking, needing].isna().all()
        shown, rest = ", ".join(needing[:3]), len(needing) - 3
        assert table.loc[lacking, "reason"] == f"{shown} and {rest} more need augmented"
        assert table.drop(lacking)[needing].notna().all(axis=None)
        assert (table.drop(lacking).reason == "").all()

    def test_a_criterion_that_the_user_named_fails_who_does_not_support_it(self, mixed, ranked):
        result = ranked(mixed, resolve_decision("dsv", 30).normal)
        failed = result.table.set_index("candidate").loc[list(mixed)[1].id]
        assert (failed.status, failed.reason) == ("failed", "dsv needs augmented")
        assert result.table.status.tolist() == ["ok", "ok", "failed"]

    def test_without_any_the_criteria_of_pseudo_anomalies_are_absent(self, pool, ranked):
        none = {c: without_pseudo_anomalies(draws) for c, draws in pool.items()}
        result = ranked(none, Rule.of(*AUTO))
        assert result.absent["dsv"] == "needs augmented, which no candidate has"
        assert "dsv" not in result.table
        assert result.table.status.tolist() == ["ok"] * 3
        assert (result.table.reason == "").all()
        assert "Its margin over the second" in " ".join(sentences(result, *list(none)[:2]))

    def test_who_has_none_cannot_collapse(self, pool, candidate, evidence, ranked):
        """Augmented scores like normal ones are a collapse, and absent ones are none."""
        collapsed = candidate(0.3)
        pool = pool | {collapsed: evidence(9.0, learned=0.0)}
        assert ranked(pool, Rule.of("rtm")).table.status.tolist() == ["ok"] * 3 + ["collapsed"]
        pool[collapsed] = without_pseudo_anomalies(pool[collapsed])
        assert ranked(pool, Rule.of("rtm")).table.status.tolist() == ["ok"] * 4

    def test_all_take_part_in_the_test_for_a_shift(self, pool, mixed):
        assert evaluation.test_for_shift(mixed.values(), seed=0) == evaluation.test_for_shift(pool.values(), seed=0)

    def test_seeds_may_share_a_row(self, pool, candidate, evidence, ranked):
        draws = without_pseudo_anomalies(evidence())
        result = ranked({candidate(0.01, seed): draws for seed in range(3)} | pool, Rule.of("score_shift"))
        assert set(result.table.status) == {"ok"}
