"""Ranking: direction, Borda, guards, ties and the verdict's error bar, on evidence made by hand."""

import math
import weakref
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from augmentations import InputError
from detectors import Classifier, ScorerSpec, preset
from selector.criteria import Criterion, evaluate, get, names
from selector.evidence.evidence import EMBEDDINGS, SCORES, Evidence
from selector.ranking import evaluation
from selector.ranking.evaluation import COLLAPSE_AUROC
from selector.ranking.ranking import rank
from selector.ranking.rules import AUTO, UNDER_SHIFT, Rule, borda, resolve_decision
from selector.ranking.shift import ShiftTest
from selector.verdict.verdict import sentences
from selector.zoo.candidates import Candidate, Training

SETTINGS = Classifier.settings_for(preset("quick"))
OK = {"status": "ok", "reason": ""}


def candidate(area: float, seed: int = 0) -> Candidate:
    return Candidate(
        Training("classifier", SETTINGS, "cutout", (("area", (area, area)),), seed), ScorerSpec("gaussian")
    )


def evidence(shift: float = 2.0, learned: float = 3.0, seed: int = 0, scores: torch.Tensor | None = None):
    """Three draws; a fifth of the test images lie ``shift`` higher, augmented scores ``learned`` higher."""
    source = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=source)

    test = normal(100)
    test[:20] += shift
    common = {
        "train": normal(40, 4),
        "test": normal(50, 4),
        "validation": normal(30, 4),
        "validation_scores": normal(30).exp(),
        "augmented_scores": (normal(30) + learned).exp(),
        "pseudo_scores": normal(30).exp() + 1,
        "test_scores": test.exp() if scores is None else scores,
    }
    common["test"] = normal(100, 4)
    return [Evidence(augmented=normal(40, 4), **common) for _ in range(3)]


def ranked(pool: dict[Candidate, list[Evidence] | None], decide: Rule):
    records = {c.id: OK if e else {"status": "failed", "reason": "it burst"} for c, e in pool.items()}
    return rank(list(pool), records, {c.id: e for c, e in pool.items() if e}, decide, seed=0)


def order(pool, decide):
    return ranked(pool, decide).table.candidate.tolist()


@pytest.fixture
def pool():
    return {candidate(0.01 * (i + 1)): evidence(shift) for i, shift in enumerate((0.5, 4.0, 2.0))}


def test_a_criterion_decides_in_its_own_direction(pool):
    weak, strong, middle = (c.id for c in pool)
    assert order(pool, Rule.of("score_shift")) == [strong, middle, weak]
    values = ranked(pool, Rule.of("discordance")).table.criterion
    assert values.is_monotonic_increasing  # lower is better


def test_borda_is_the_mean_share_of_candidates_beaten(pool):
    table = ranked(pool, Rule.of("score_shift", "score_skewness")).table.set_index("candidate")
    assert table.criterion.iloc[0] == 1.0
    for i in table.index:
        beaten = [(table[name] < table[name][i]).sum() / 2 for name in ("score_shift", "score_skewness")]
        assert table.criterion[i] == pytest.approx(np.mean(beaten))


def test_a_tied_borda_goes_to_the_first_criterion(pool):
    two = dict(list(pool.items())[:2])
    split = Rule.of("score_shift", "mean_distance")
    table = ranked(two, split).table
    if table.criterion.nunique() == 1:
        assert table.score_shift[0] > table.score_shift[1]


def test_equal_candidates_keep_their_order():
    same = evidence()
    pool = {candidate(0.01): same, candidate(0.02): same}
    assert order(pool, Rule.of("rtm")) == [c.id for c in pool]


def test_collapsed_candidates_come_after_the_trained_and_failed_ones_last(pool):
    collapsed, failed = candidate(0.2), candidate(0.3)
    pool = {failed: None, collapsed: evidence(shift=9.0, learned=0.0), **pool}
    table = ranked(pool, Rule.of("score_shift")).table
    assert table.candidate.tolist()[-2:] == [collapsed.id, failed.id]
    assert table.status.tolist() == ["ok"] * 3 + ["collapsed", "failed"]
    assert str(COLLAPSE_AUROC) in table.reason[3]
    assert table.reason[4] == "it burst"
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]


def test_a_criterion_that_is_not_finite_never_wins(pool):
    broken = candidate(0.4)
    constant = torch.ones(100)
    pool = {broken: evidence(scores=constant), **pool}
    table = ranked(pool, Rule.of("score_otsu")).table
    assert table.candidate.iloc[-1] == broken.id
    assert "score_otsu is not finite" in table.reason.iloc[-1]


class TestTied:
    def test_what_is_clearly_worse_is_not(self, pool):
        assert ranked(pool, Rule.of("score_shift")).table.tied.tolist() == [True, False, False]

    def test_equal_candidates_are(self):
        same = evidence()
        pool = {candidate(0.01): same, candidate(0.02): same, candidate(0.03): evidence(shift=-9.0)}
        result = ranked(pool, Rule.of("score_shift"))
        assert result.table.tied.tolist() == [True, True, False]
        first, second = list(pool)[:2]
        text = " ".join(sentences(result, first, second))
        assert "1 of the others can't be distinguished from the best one" in text
        assert "cutout (area 0.02)." in text

    def test_the_first_few_are_named(self):
        same = evidence()
        pool = {candidate(0.01 * i): same for i in range(1, 8)}
        result = ranked(pool, Rule.of("score_shift"))
        last = sentences(result, *list(pool)[:2])[-1]
        assert last.startswith("6 of the others")
        assert last.endswith("cutout (area 0.02), cutout (area 0.03), cutout (area 0.04) and 3 more.")

    def test_who_is_not_ok_is_not(self, pool):
        pool = {candidate(0.2): evidence(shift=9.0, learned=0.0), candidate(0.3): None, **pool}
        table = ranked(pool, Rule.of("rtm")).table
        assert not table.tied[table.status != "ok"].any()
        alone = ranked({candidate(0.1): evidence()}, Rule.of("rtm")).table
        assert alone.tied.tolist() == [True]


class TestSeeds:
    @pytest.fixture
    def twice(self):
        """Two configurations; shifts by seed: 1, 6, 2 and 4, 4.5, 3.5."""
        shifts = {0.01: (1.0, 6.0, 2.0), 0.02: (4.0, 4.5, 3.5)}
        return {
            candidate(area, seed): evidence(shift, seed=3)
            for area, by_seed in shifts.items()
            for seed, shift in enumerate(by_seed)
        }

    def test_a_configuration_has_one_row_of_means_and_the_median_seed(self, twice):
        result = ranked(twice, Rule.of("score_shift"))
        table = result.table
        by_id = {c.id: evaluate(e[0], ["score_shift"])["score_shift"] for c, e in twice.items()}
        wild, steady = (list(by_id.items())[:3], list(by_id.items())[3:])
        assert table.candidate.tolist() == [steady[0][0], wild[2][0]]
        assert table.seed.tolist() == [0, 2]
        for place, members in enumerate((steady, wild)):
            values = [value for _, value in members]
            assert table.score_shift[place] == pytest.approx(np.mean(values))
            assert result.spread.score_shift.iloc[place] == pytest.approx(np.std(values))

    def test_the_spread_is_over_seeds_and_draws(self, twice):
        result = ranked(twice, Rule.of("score_shift"))
        members = list(twice.items())[3:]
        values = [evaluate(draw, ["dsv"])["dsv"] for _, draws in members for draw in draws]
        assert result.table.dsv[0] == pytest.approx(np.mean(values))
        assert result.spread.dsv.iloc[0] == pytest.approx(np.std(values))

    def test_of_two_seeds_the_worse_stands_for_both(self):
        pool = {candidate(0.01, 5): evidence(1.0), candidate(0.01, 6): evidence(6.0)}
        assert ranked(pool, Rule.of("score_shift")).table.seed.tolist() == [5]
        assert ranked(pool, Rule.of("discordance")).table.status.tolist() == ["ok"]

    def test_seeds_enter_the_margins_error_bar(self, twice):
        one = {c: e for c, e in twice.items() if c.training.seed == 2}
        assert ranked(twice, Rule.of("score_shift")).margin_spread > ranked(one, Rule.of("score_shift")).margin_spread

    def test_a_seed_that_collapsed_or_failed_is_left_out_and_named(self, twice):
        lost, sunk, last = list(twice)[:3]
        twice = {**twice, lost: None, sunk: evidence(6.0, learned=0.0)}
        table = ranked(twice, Rule.of("score_shift")).table
        assert table.status.tolist() == ["ok", "ok"]
        assert table.reason.tolist() == ["", "seed 0 failed, seed 1 collapsed"]
        assert table.seed[1] == 2
        all_lost = ranked({**twice, last: None}, Rule.of("score_shift")).table
        assert all_lost.status.tolist() == ["ok", "collapsed"]
        assert all_lost.seed[1] == 1


@pytest.mark.parametrize("name", ["validation_scores", "test_scores"])
def test_a_constant_scorer_failed(pool, name):
    constant = candidate(0.4)
    flat = [replace(e, **{name: torch.full_like(getattr(e, name), 2.5)}) for e in evidence(shift=9.0)]
    table = ranked({constant: flat, **pool}, Rule.of("pseudo_auc")).table
    assert table.candidate.iloc[-1] == constant.id
    assert table.status.iloc[-1] == "failed"
    assert table.reason.iloc[-1] == f"all {name.replace('_', ' ')} are equal"


def test_what_cannot_be_computed_is_no_number_and_says_why(pool):
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
    assert mixed.reason[odd.id] == "pseudo_auc needs pseudo_scores, npd needs pseudo_scores"


def test_every_criterion_has_a_column_and_embedding_criteria_a_spread(pool):
    result = ranked(pool, Rule.of("rtm"))
    assert set(names()) <= set(result.table.columns)
    assert (result.spread["dsv"] > 0).all()
    assert (result.spread["rtm"] == 0).all()


def test_the_share_of_first_places_tells_a_clear_choice_from_a_toss(pool):
    clear = ranked(pool, Rule.of("score_shift"))
    assert clear.share_first > 0.9
    assert clear.margin > clear.margin_spread > 0
    toss = ranked({candidate(0.01 * i): evidence(2.0, seed=i) for i in range(1, 6)}, Rule.of("rtm"))
    assert toss.share_first < 0.9


def test_ranking_is_the_same_twice(pool):
    first, second = (ranked(pool, Rule.of("rtm", "score_skewness")) for _ in range(2))
    assert first.table.equals(second.table)
    assert (first.margin, first.margin_spread, first.share_first) == (
        second.margin,
        second.margin_spread,
        second.share_first,
    )


class Lazy(Mapping):
    """Evidence that is created again at every access; ``most`` is how much of it was in memory at once."""

    def __init__(self, made):
        self.made, self.accessed, self.alive, self.most = made, [], weakref.WeakSet(), 0

    def __getitem__(self, candidate_id):
        draws = [replace(draw) for draw in self.made[candidate_id]]
        self.accessed.append(candidate_id)
        self.alive.update(draws)
        self.most = max(self.most, len(self.alive))
        return draws

    def __contains__(self, candidate_id):
        return candidate_id in self.made

    def __iter__(self):
        return iter(self.made)

    def __len__(self):
        return len(self.made)


@pytest.mark.parametrize("names", [AUTO, ("dsv",)])
def test_evidence_is_read_one_candidate_at_a_time(names, monkeypatch):
    made = {candidate(0.01 * i): evidence(0.5 * i, seed=i) for i in range(1, 7)}
    monkeypatch.setattr("selector.ranking.rules.MOST_THREADS", 1)
    lazy = Lazy({c.id: draws for c, draws in made.items()})
    records = dict.fromkeys(lazy, OK)
    result = rank(list(made), records, lazy, Rule.of(*names), seed=0)
    assert lazy.most <= 2 * 3  # draws: of the candidate that is read, and of one that is let go of
    assert len(lazy.accessed) <= 3 * len(made) + 1
    assert result.table.equals(ranked(made, Rule.of(*names)).table)


def test_where_scores_decide_resamples_read_no_embeddings(pool, monkeypatch):
    taken, subset = set(), Evidence.subset
    monkeypatch.setattr(Evidence, "subset", lambda self, **rows: taken.update(rows) or subset(self, **rows))
    ranked(pool, Rule.of(*AUTO))
    assert taken == {"validation_scores", "test_scores", "pseudo_scores"}
    ranked(pool, resolve_decision(spread_of_tests, 30).normal)  # which does not say what it reads
    assert taken == {*EMBEDDINGS, *SCORES} - {"train", "augmented"}


def test_resamples_of_scores_at_once_are_those_one_by_one(pool, monkeypatch):
    at_once = ranked(pool, Rule.of(*AUTO))
    monkeypatch.setattr("selector.ranking.bootstrap.SCORES", ())
    one_by_one = ranked(pool, Rule.of(*AUTO))
    assert at_once.margin_spread == pytest.approx(one_by_one.margin_spread, rel=1e-9)
    assert at_once.share_first == one_by_one.share_first
    assert at_once.table.equals(one_by_one.table)


def test_one_candidate_has_no_margin():
    only = candidate(0.01)
    result = ranked({only: evidence()}, Rule.of("rtm"))
    assert math.isnan(result.margin)
    assert "nothing confirms" in " ".join(sentences(result, only, None))


def test_the_verdict_says_whether_the_margin_exceeds_its_spread(pool):
    result = ranked(pool, Rule.of("score_shift"))
    by_id = {c.id: c for c in pool}
    text = " ".join(sentences(result, by_id[result.table.candidate[0]], by_id[result.table.candidate[1]]))
    assert "cutout (area 0.02)" in text
    assert ", more than the margin's spread" in text


def spread_of_tests(evidence):
    """How much the test scores vary.

    More is not said.
    """
    return evidence.test_scores.log().std()


class TestCustomCriterion:
    def test_it_decides_under_its_own_name_and_higher_is_better(self, pool):
        decide = resolve_decision(spread_of_tests, 30).normal
        result = ranked(pool, decide)
        expected = {c.id: spread_of_tests(e[0]).item() for c, e in pool.items()}
        assert result.table.candidate.tolist() == sorted(expected, key=expected.get, reverse=True)
        assert result.table.spread_of_tests.tolist() == pytest.approx(sorted(expected.values(), reverse=True))
        assert (result.table.criterion == result.table.spread_of_tests).all()
        assert result.criteria[-1].description == "How much the test scores vary."
        assert result.margin_spread > 0

    def test_a_criterion_may_be_better_when_lower(self, pool):
        down = Criterion("down", False, ("test_scores",), "me", spread_of_tests, "")
        assert (
            order(pool, resolve_decision(down, 30).normal)
            == order(pool, resolve_decision(spread_of_tests, 30).normal)[::-1]
        )

    def test_draws_enter_its_spread(self, pool):
        def of_draws(evidence):
            return evidence.augmented.mean()

        result = ranked(pool, resolve_decision(of_draws, 30).normal)
        assert (result.spread.of_draws > 0).all()
        values = [of_draws(draw).item() for draw in pool[next(iter(pool))]]
        best = result.table.set_index("candidate").of_draws[next(iter(pool)).id]
        assert best == pytest.approx(np.mean(values))

    @pytest.mark.parametrize(
        ("give", "message"),
        [
            (lambda: 1 / 0, "picky raised ZeroDivisionError: division by zero"),
            (lambda: "3.0", "picky gave '3.0', which is not a number"),
            (lambda: None, "picky gave None, which is not a number"),
            (lambda: torch.ones(3), "picky raised"),
            (lambda: math.inf, "picky is not finite"),
        ],
    )
    def test_a_candidate_for_which_it_has_no_number_failed_with_the_reason(self, pool, give, message):
        bad = next(iter(pool.values()))[0].test_scores

        def picky(evidence):
            if len(evidence.test_scores) == len(bad) and torch.equal(evidence.test_scores, bad):
                return give()
            return 1.0

        table = ranked(pool, resolve_decision(picky, 30).normal).table
        assert table.status.tolist() == ["ok", "ok", "failed"]
        assert table.candidate[2] == next(iter(pool)).id
        assert message in table.reason[2]


def test_a_criterion_whose_evidence_no_candidate_has_is_absent_and_says_why():
    pool = {candidate(0.01 * i): [replace(e, pseudo_scores=None) for e in evidence(seed=i)] for i in (1, 2)}
    result = ranked(pool, Rule.of("rtm"))
    assert not {"npd", "pseudo_auc"} & set(result.table.columns)
    assert result.absent.keys() == {"npd", "pseudo_auc"}
    assert "pseudo_scores" in result.absent["npd"]
    failed = ranked(pool, Rule.of("npd")).table
    assert failed.status.tolist() == ["failed"] * 2
    assert "npd needs pseudo_scores" in failed.reason[0]


def test_the_borda_share_of_collapsed_candidates_counts_trusted_candidates(pool):
    collapsed = candidate(0.2)
    table = ranked(
        {collapsed: evidence(shift=0.0, learned=0.0), **pool}, Rule.of("score_shift", "score_skewness")
    ).table
    assert table.status.iloc[-1] == "collapsed"
    assert table.criterion.iloc[-1] < table.criterion.iloc[0] == 1.0


def test_without_any_usable_criterion_what_has_a_detector_comes_first():
    never, constant = candidate(0.1), candidate(0.2)
    table = ranked({never: None, constant: evidence(scores=torch.ones(100))}, Rule.of("score_otsu")).table
    assert table.candidate.tolist() == [constant.id, never.id]
    assert table.status.tolist() == ["failed", "failed"]


def test_of_a_borda_those_criteria_decide_that_every_candidate_supports(pool):
    """A patch detector trained on one family has no pseudo anomalies of others; its rivals may have some."""
    assert ranked(pool, Rule.of(*AUTO)).rule.names == AUTO
    lacking = next(iter(pool))
    pool[lacking] = [replace(draw, pseudo_scores=None) for draw in pool[lacking]]
    found = ranked(pool, Rule.of(*AUTO))
    assert found.rule.names == tuple(name for name in AUTO if name not in ("pseudo_auc", "npd"))
    assert set(found.table.status) == {"ok"}
    assert found.table.equals(ranked(pool, Rule(found.rule.criteria)).table)


@pytest.mark.parametrize("criterion", ["npd", ("npd", "rtm")])
def test_a_criterion_that_the_user_named_is_not_left_out(pool, criterion):
    lacking = next(iter(pool))
    pool[lacking] = [replace(draw, pseudo_scores=None) for draw in pool[lacking]]
    found = ranked(pool, resolve_decision(criterion, 30).normal).table.set_index("candidate")
    assert found.status[lacking.id] == "failed"


def test_several_names_decide_by_their_borda(pool):
    found = resolve_decision(["dsv", "score_shift"], 30).normal
    assert (found.names, found.is_borda) == (("dsv", "score_shift"), True)
    assert ranked(pool, found).table.equals(ranked(pool, Rule.of("dsv", "score_shift")).table)
    assert resolve_decision(("rtm",), 30).normal.names == ("rtm",)


class TestShift:
    """Test images against validation images: by the candidates that can be trusted."""

    def test_a_shift_that_candidates_see_is_reported_and_auto_falls_back(self, pool):
        shifted = {c: [replace(e, test_scores=e.test_scores * 20) for e in draws] for c, draws in pool.items()}
        found = evaluation.test_for_shift(shifted.values(), seed=0)
        assert found.is_shifted
        assert found.is_higher
        assert (found.n_shifted, found.n_candidates) == (3, 3)
        decide = resolve_decision("auto", 30).given(found.is_shifted)
        assert decide.names == UNDER_SHIFT
        result = replace(ranked(shifted, decide), comparison=found)
        message = sentences(result, *list(pool)[:2])[-1]
        assert message.startswith("Warning: validation images do not resemble the normal test images")
        left = "to Borda over rtm, npd and score_skewness, which does not compare their level"
        assert f"so it was left {left}" in message
        for criterion in ("score_shift", "rtm"):
            by_hand = replace(result, rule=Rule.from_json(resolve_decision(criterion, 30).normal.to_json()))
            assert f'"auto" would leave it {left}' in sentences(by_hand, *list(pool)[:2])[-1]

    def test_what_decides_under_a_shift_sees_no_shift_of_levels(self, pool):
        """Test scores of each candidate in multiples of its own, as another lamp may make them: the order stays."""
        moved = {
            c: [replace(e, test_scores=e.test_scores * 3.0**place) for e in draws]
            for place, (c, draws) in enumerate(pool.items())
        }
        usual, shifted = (ranked(given, Rule.of(*UNDER_SHIFT)).table for given in (pool, moved))
        assert usual.candidate.tolist() == shifted.candidate.tolist()
        assert usual.criterion.tolist() == shifted.criterion.tolist()
        levels = [ranked(given, Rule.of("score_q95")).table for given in (pool, moved)]
        assert levels[0].criterion.tolist() != levels[1].criterion.tolist()

    def test_without_one_auto_is_what_it_was(self, pool):
        assert not evaluation.test_for_shift(pool.values(), seed=0).is_shifted
        assert resolve_decision("auto", 30).normal.names == AUTO
        assert resolve_decision("dsv", 30).under_shift.names == ("dsv",)
        assert resolve_decision("auto", 30, False).under_shift.names == resolve_decision("auto", 30, False).normal.names

    def test_no_evidence_of_anomalies_is_reported(self, pool):
        usual = {c.id: evidence(shift=0.0, seed=3) for c in pool}
        found = evaluation.test_for_shift(usual.values(), seed=0)
        assert found.no_evidence_of_anomalies
        result = replace(ranked(pool, Rule.of("rtm")), comparison=found)
        assert sentences(result, *list(pool)[:2])[-1].startswith("There is no evidence of anomalies in the test images")
        clear = evaluation.test_for_shift(pool.values(), seed=0)
        assert not clear.no_evidence_of_anomalies

    def test_who_can_not_be_trusted_takes_no_part(self, pool):
        liar = [replace(e, test_scores=e.test_scores * 1e6) for e in evidence(learned=-1.0)]
        constant = evidence(scores=torch.ones(100))
        trusted = {c.id: e for c, e in pool.items()}
        assert evaluation.test_for_shift(
            (trusted | {"collapsed": liar, "constant": constant}).values(), seed=0
        ) == evaluation.test_for_shift(trusted.values(), seed=0)
        assert evaluation.test_for_shift([liar], seed=0) == ShiftTest(reason="no candidate can be trusted")

    def test_too_little_to_compare_is_reported(self, pool):
        few = {c.id: [e.subset(validation_scores=torch.arange(19)) for e in draws] for c, draws in pool.items()}
        assert "19 validation images are fewer than 20" in evaluation.test_for_shift(few.values(), seed=0).reason
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

    def test_auto_is_decided_by_what_all_support(self, pool, mixed):
        result = ranked(mixed, Rule.of(*AUTO))
        assert result.rule.names == AUTO
        assert result.table.status.tolist() == ["ok"] * 3
        assert result.table.candidate.tolist() == order(pool, Rule.of(*AUTO))
        assert result.margin_spread >= 0

    def test_what_only_some_support_has_no_value_for_the_others_and_says_why(self, mixed):
        lacking = list(mixed)[1].id
        table = ranked(mixed, Rule.of(*AUTO)).table.set_index("candidate")
        needing = [name for name in names() if "augmented" in get(name).needs]
        assert table.loc[lacking, needing].isna().all()
        assert table.loc[lacking, "reason"] == ", ".join(f"{name} needs augmented" for name in needing)
        assert table.drop(lacking)[needing].notna().all(axis=None)
        assert (table.drop(lacking).reason == "").all()

    def test_a_criterion_that_the_user_named_fails_who_does_not_support_it(self, mixed):
        result = ranked(mixed, resolve_decision("dsv", 30).normal)
        failed = result.table.set_index("candidate").loc[list(mixed)[1].id]
        assert (failed.status, failed.reason) == ("failed", "dsv needs augmented")
        assert result.table.status.tolist() == ["ok", "ok", "failed"]

    def test_without_any_the_criteria_of_pseudo_anomalies_are_absent(self, pool):
        none = {c: without_pseudo_anomalies(draws) for c, draws in pool.items()}
        result = ranked(none, Rule.of(*AUTO))
        assert result.absent["dsv"] == "needs augmented, which no candidate has"
        assert "dsv" not in result.table
        assert result.table.status.tolist() == ["ok"] * 3
        assert (result.table.reason == "").all()
        assert "Its margin over the second" in " ".join(sentences(result, *list(none)[:2]))

    def test_who_has_none_cannot_collapse(self, pool):
        """Augmented scores like normal ones are a collapse, and absent ones are none."""
        collapsed = candidate(0.3)
        pool = pool | {collapsed: evidence(9.0, learned=0.0)}
        assert ranked(pool, Rule.of("rtm")).table.status.tolist() == ["ok"] * 3 + ["collapsed"]
        pool[collapsed] = without_pseudo_anomalies(pool[collapsed])
        assert ranked(pool, Rule.of("rtm")).table.status.tolist() == ["ok"] * 4

    def test_all_take_part_in_the_test_for_a_shift(self, pool, mixed):
        assert evaluation.test_for_shift(mixed.values(), seed=0) == evaluation.test_for_shift(pool.values(), seed=0)

    def test_seeds_may_share_a_row(self, pool):
        draws = without_pseudo_anomalies(evidence())
        result = ranked({candidate(0.01, seed): draws for seed in range(3)} | pool, Rule.of("score_shift"))
        assert set(result.table.status) == {"ok"}


def test_several_criteria_may_be_objects_and_a_users_own(pool):
    own = Criterion("own", False, ("test_scores",), "me", spread_of_tests, "")
    rule = resolve_decision(["rtm", own, get("npd")], 30).normal
    assert rule.names == ("rtm", "own", "npd")
    assert rule.custom == (own,)
    result = ranked(pool, rule)
    table = result.table.set_index("candidate")
    shares = borda(table, {"rtm": True, "own": False, "npd": True})
    assert table.criterion.tolist() == shares.tolist()
    assert result.margin_spread >= 0
    assert Rule.from_json(rule.to_json()).names == rule.names
    with pytest.raises(InputError, match="each once"):
        resolve_decision([own, own], 30)
