"""Ranking: direction, Borda, seeds, ties and the verdict's error bar, on evidence made by hand."""

import math
import weakref
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from augmentations import InputError
from detectors import ScorerSpec
from selector.criteria import Criterion, evaluate, get, names
from selector.evidence.evidence import EMBEDDINGS, SCORES, Evidence
from selector.ranking.ranking import rank
from selector.ranking.rules import AUTO, Rule, borda, resolve_decision
from selector.verdict.verdict import number, sentences

OK = {"status": "ok", "reason": ""}


def test_a_criterion_decides_in_its_own_direction(pool, ranked, order):
    weak, strong, middle = (c.id for c in pool)
    assert order(pool, Rule.of("score_shift")) == [strong, middle, weak]
    values = ranked(pool, Rule.of("discordance")).table.criterion
    assert values.is_monotonic_increasing  # lower is better


def test_borda_is_the_mean_share_of_candidates_beaten(pool, ranked):
    table = ranked(pool, Rule.of("score_shift", "score_skewness")).table.set_index("candidate")
    assert table.criterion.iloc[0] == 1.0
    for i in table.index:
        beaten = [(table[name] < table[name][i]).sum() / 2 for name in ("score_shift", "score_skewness")]
        assert table.criterion[i] == pytest.approx(np.mean(beaten))


def test_a_tied_borda_goes_to_the_first_criterion(pool, ranked):
    two = dict(list(pool.items())[:2])
    split = Rule.of("score_shift", "mean_distance")
    table = ranked(two, split).table
    if table.criterion.nunique() == 1:
        assert table.score_shift[0] > table.score_shift[1]


def test_equal_candidates_keep_their_order(candidate, evidence, order):
    same = evidence()
    pool = {candidate(0.01): same, candidate(0.02): same}
    assert order(pool, Rule.of("rtm")) == [c.id for c in pool]


class TestTied:
    def test_what_is_clearly_worse_is_not(self, pool, ranked):
        assert ranked(pool, Rule.of("score_shift")).table.tied.tolist() == [True, False, False]

    def test_equal_candidates_are(self, candidate, evidence, ranked):
        same = evidence()
        pool = {candidate(0.01): same, candidate(0.02): same, candidate(0.03): evidence(shift=-9.0)}
        result = ranked(pool, Rule.of("score_shift"))
        assert result.table.tied.tolist() == [True, True, False]
        first, second = list(pool)[:2]
        text = " ".join(sentences(result, first, second))
        assert "1 of the others can't be distinguished from the best one" in text
        assert "cutout (area 0.02)." in text

    def test_the_first_few_are_named(self, candidate, evidence, ranked):
        same = evidence()
        pool = {candidate(0.01 * i): same for i in range(1, 8)}
        result = ranked(pool, Rule.of("score_shift"))
        last = sentences(result, *list(pool)[:2])[-1]
        assert last.startswith("6 of the others")
        assert last.endswith("cutout (area 0.02), cutout (area 0.03), cutout (area 0.04) and 3 more.")

    def test_who_is_not_ok_is_not(self, pool, candidate, evidence, ranked):
        pool = {candidate(0.2): evidence(shift=9.0, learned=0.0), candidate(0.3): None, **pool}
        table = ranked(pool, Rule.of("rtm")).table
        assert not table.tied[table.status != "ok"].any()
        alone = ranked({candidate(0.1): evidence()}, Rule.of("rtm")).table
        assert alone.tied.tolist() == [True]


class TestSeeds:
    @pytest.fixture
    def twice(self, candidate, evidence):
        """Two configurations; shifts by seed: 1, 6, 2 and 4, 4.5, 3.5."""
        shifts = {0.01: (1.0, 6.0, 2.0), 0.02: (4.0, 4.5, 3.5)}
        return {
            candidate(area, seed): evidence(shift, seed=3)
            for area, by_seed in shifts.items()
            for seed, shift in enumerate(by_seed)
        }

    def test_a_configuration_has_one_row_of_means_and_the_median_seed(self, twice, ranked):
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

    def test_the_spread_is_over_seeds_and_draws(self, twice, ranked):
        result = ranked(twice, Rule.of("score_shift"))
        members = list(twice.items())[3:]
        values = [evaluate(draw, ["dsv"])["dsv"] for _, draws in members for draw in draws]
        assert result.table.dsv[0] == pytest.approx(np.mean(values))
        assert result.spread.dsv.iloc[0] == pytest.approx(np.std(values))

    def test_of_two_seeds_the_worse_stands_for_both(self, candidate, evidence, ranked):
        pool = {candidate(0.01, 5): evidence(1.0), candidate(0.01, 6): evidence(6.0)}
        assert ranked(pool, Rule.of("score_shift")).table.seed.tolist() == [5]
        assert ranked(pool, Rule.of("discordance")).table.status.tolist() == ["ok"]

    def test_seeds_enter_the_margins_error_bar(self, twice, ranked):
        one = {c: e for c, e in twice.items() if c.training.seed == 2}
        assert ranked(twice, Rule.of("score_shift")).margin_spread > ranked(one, Rule.of("score_shift")).margin_spread

    def test_a_seed_that_collapsed_or_failed_is_left_out_and_named(self, twice, evidence, ranked):
        lost, sunk, last = list(twice)[:3]
        twice = {**twice, lost: None, sunk: evidence(6.0, learned=0.0)}
        table = ranked(twice, Rule.of("score_shift")).table
        assert table.status.tolist() == ["ok", "ok"]
        assert table.reason.tolist() == ["", "seed 0 failed, seed 1 collapsed"]
        assert table.seed[1] == 2
        all_lost = ranked({**twice, last: None}, Rule.of("score_shift")).table
        assert all_lost.status.tolist() == ["ok", "collapsed"]
        assert all_lost.seed[1] == 1


class TestOneDraw:
    """A kind may find more than one draw of its pseudo anomalies too costly."""

    def test_it_has_no_spread(self, pool, ranked):
        def of_draws(evidence):
            return evidence.augmented.mean().item()

        first, *others = pool
        pool = {first: pool[first][:1], **{c: pool[c] for c in others}}
        result = ranked(pool, resolve_decision(of_draws, 30).normal)
        for name in ("dsv", "of_draws"):
            assert math.isnan(result.spread[name][first.id])
            assert (result.spread[name].drop(first.id) > 0).all()
        assert (result.spread["rtm"] == 0).all()
        assert (result.table.status == "ok").all()
        assert ranked(pool, Rule.of("dsv")).table.dsv.notna().all()

    def test_that_of_seeds_is_there_all_the_same(self, candidate, evidence, ranked):
        pool = {candidate(0.1, seed): evidence(seed=seed)[:1] for seed in range(3)}
        result = ranked(pool, Rule.of("dsv"))
        values = [evaluate(draws[0], ["dsv"])["dsv"] for draws in pool.values()]
        assert result.spread.dsv.iloc[0] == pytest.approx(np.std(values))


def test_every_criterion_has_a_column_and_embedding_criteria_a_spread(pool, ranked):
    result = ranked(pool, Rule.of("rtm"))
    assert set(names()) <= set(result.table.columns)
    assert (result.spread["dsv"] > 0).all()
    assert (result.spread["rtm"] == 0).all()


def test_the_share_of_first_places_distinguishes_a_clear_choice_from_a_toss(pool, candidate, evidence, ranked):
    clear = ranked(pool, Rule.of("score_shift"))
    assert clear.share_first > 0.9
    assert clear.margin > clear.margin_spread > 0
    toss = ranked({candidate(0.01 * i): evidence(2.0, seed=i) for i in range(1, 6)}, Rule.of("rtm"))
    assert toss.share_first < 0.9


def test_ranking_is_the_same_twice(pool, ranked):
    first, second = (ranked(pool, Rule.of("rtm", "score_skewness")) for _ in range(2))
    assert first.table.equals(second.table)
    assert (first.margin, first.margin_spread, first.share_first) == (
        second.margin,
        second.margin_spread,
        second.share_first,
    )


class Lazy(Mapping):
    """Evidence that is created again at every access; ``most`` is how much of it was in memory at once."""

    def __init__(self, evidence):
        self.evidence, self.accessed, self.alive, self.most = evidence, [], weakref.WeakSet(), 0

    def __getitem__(self, candidate_id):
        draws = [replace(draw) for draw in self.evidence[candidate_id]]
        self.accessed.append(candidate_id)
        self.alive.update(draws)
        self.most = max(self.most, len(self.alive))
        return draws

    def __contains__(self, candidate_id):
        return candidate_id in self.evidence

    def __iter__(self):
        return iter(self.evidence)

    def __len__(self):
        return len(self.evidence)


@pytest.mark.parametrize("names", [AUTO, ("dsv",)])
def test_evidence_is_read_one_candidate_at_a_time(names, monkeypatch, candidate, evidence, ranked):
    by_candidate = {candidate(0.01 * i): evidence(0.5 * i, seed=i) for i in range(1, 7)}
    monkeypatch.setattr("selector.ranking.rules.MOST_THREADS", 1)
    lazy = Lazy({c.id: draws for c, draws in by_candidate.items()})
    records = dict.fromkeys(lazy, OK)
    result = rank(list(by_candidate), records, lazy, Rule.of(*names), seed=0)
    assert lazy.most <= 2 * 3  # draws: of the candidate that is read, and of one that is let go of
    assert len(lazy.accessed) <= 3 * len(by_candidate) + 1
    assert result.table.equals(ranked(by_candidate, Rule.of(*names)).table)


def test_where_scores_decide_resamples_read_no_embeddings(pool, monkeypatch, ranked):
    taken, subset = set(), Evidence.subset
    monkeypatch.setattr(Evidence, "subset", lambda self, **rows: taken.update(rows) or subset(self, **rows))
    ranked(pool, Rule.of(*AUTO))
    assert taken == {"validation_scores", "test_scores", "pseudo_scores"}
    ranked(pool, resolve_decision(spread_of_tests, 30).normal)  # which does not say what it reads
    assert taken == {*EMBEDDINGS, *SCORES} - {"train", "augmented"}


def test_resamples_of_scores_at_once_are_those_one_by_one(pool, monkeypatch, ranked):
    at_once = ranked(pool, Rule.of(*AUTO))
    monkeypatch.setattr("selector.ranking.bootstrap.SCORES", ())
    one_by_one = ranked(pool, Rule.of(*AUTO))
    assert at_once.margin_spread == pytest.approx(one_by_one.margin_spread, rel=1e-9)
    assert at_once.share_first == one_by_one.share_first
    assert at_once.table.equals(one_by_one.table)


def test_one_candidate_has_no_margin(candidate, evidence, ranked):
    only = candidate(0.01)
    result = ranked({only: evidence()}, Rule.of("rtm"))
    assert math.isnan(result.margin)
    assert "nothing confirms" in " ".join(sentences(result, only, None))


def test_one_candidate_has_no_borda_share(candidate, evidence, ranked):
    only, failed = candidate(0.01), candidate(0.02)
    result = ranked({only: evidence(), failed: None}, Rule.of("rtm", "score_shift"))
    assert result.table.status.tolist() == ["ok", "failed"]
    assert result.table.criterion.isna().all()
    first = sentences(result, only, None)[0]
    assert first == "Best of 2 candidates (1 failed): cutout (area 0.01)."


@pytest.mark.parametrize("is_tied", [False, True])
def test_one_rule_says_who_can_not_be_distinguished(pool, ranked, is_tied):
    """Also where the margin exceeds its spread: a verdict must not contradict itself."""
    result = ranked(pool, Rule.of("score_shift"))
    assert result.margin > result.margin_spread
    result = replace(result, table=result.table.assign(tied=[True, is_tied, False]))
    by_id = {c.id: c for c in pool}
    text = " ".join(sentences(result, *(by_id[i] for i in result.table.candidate[:2])))
    assert ("1 of the others can't be distinguished from the best one" in text) == is_tied
    assert ("No other one was at least as good in 5% of the draws or more." in text) != is_tied
    assert "more than the margin's spread" not in text


def test_the_verdict_gives_the_margin_and_its_spread(pool, ranked):
    result = ranked(pool, Rule.of("score_shift"))
    by_id = {c.id: c for c in pool}
    text = " ".join(sentences(result, by_id[result.table.candidate[0]], by_id[result.table.candidate[1]]))
    assert "cutout (area 0.02)" in text
    assert f"is {number(result.margin)}, with a standard deviation of {number(result.margin_spread)} over" in text


def spread_of_tests(evidence):
    """How much the test scores vary.

    More is not said.
    """
    return evidence.test_scores.log().std()


class TestCustomCriterion:
    def test_it_decides_under_its_own_name_and_higher_is_better(self, pool, ranked):
        decide = resolve_decision(spread_of_tests, 30).normal
        result = ranked(pool, decide)
        expected = {c.id: spread_of_tests(e[0]).item() for c, e in pool.items()}
        assert result.table.candidate.tolist() == sorted(expected, key=expected.get, reverse=True)
        assert result.table.spread_of_tests.tolist() == pytest.approx(sorted(expected.values(), reverse=True))
        assert (result.table.criterion == result.table.spread_of_tests).all()
        assert result.criteria[-1].description == "How much the test scores vary."
        assert result.margin_spread > 0

    def test_a_criterion_may_be_better_when_lower(self, pool, order):
        down = Criterion("down", False, ("test_scores",), "me", spread_of_tests, "")
        assert (
            order(pool, resolve_decision(down, 30).normal)
            == order(pool, resolve_decision(spread_of_tests, 30).normal)[::-1]
        )

    def test_draws_enter_its_spread(self, pool, ranked):
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
    def test_a_candidate_for_which_it_has_no_number_failed_with_the_reason(self, pool, give, message, ranked):
        bad = next(iter(pool.values()))[0].test_scores

        def picky(evidence):
            if len(evidence.test_scores) == len(bad) and torch.equal(evidence.test_scores, bad):
                return give()
            return 1.0

        table = ranked(pool, resolve_decision(picky, 30).normal).table
        assert table.status.tolist() == ["ok", "ok", "failed"]
        assert table.candidate[2] == next(iter(pool)).id
        assert message in table.reason[2]


def test_the_borda_share_of_collapsed_candidates_counts_trusted_candidates(pool, candidate, evidence, ranked):
    collapsed = candidate(0.2)
    table = ranked(
        {collapsed: evidence(shift=0.0, learned=0.0), **pool}, Rule.of("score_shift", "score_skewness")
    ).table
    assert table.status.iloc[-1] == "collapsed"
    assert table.criterion.iloc[-1] < table.criterion.iloc[0] == 1.0


def test_of_a_borda_those_criteria_decide_that_every_candidate_supports(pool, ranked):
    """A patch detector trained on one family has no pseudo anomalies of others; its rivals may have some."""
    assert ranked(pool, Rule.of(*AUTO)).rule.names == AUTO
    lacking = next(iter(pool))
    pool[lacking] = [replace(draw, pseudo_scores=None) for draw in pool[lacking]]
    result = ranked(pool, Rule.of(*AUTO))
    assert result.rule.names == tuple(name for name in AUTO if name not in ("pseudo_auc", "npd"))
    assert set(result.table.status) == {"ok"}
    assert result.table.equals(ranked(pool, Rule(result.rule.criteria)).table)


@pytest.mark.parametrize("criterion", ["npd", ("npd", "rtm")])
def test_a_criterion_that_the_user_named_is_not_left_out(pool, criterion, ranked):
    lacking = next(iter(pool))
    pool[lacking] = [replace(draw, pseudo_scores=None) for draw in pool[lacking]]
    table = ranked(pool, resolve_decision(criterion, 30).normal).table.set_index("candidate")
    assert table.status[lacking.id] == "failed"


def test_several_names_decide_by_their_borda(pool, ranked):
    rule = resolve_decision(["dsv", "score_shift"], 30).normal
    assert (rule.names, rule.is_borda) == (("dsv", "score_shift"), True)
    assert ranked(pool, rule).table.equals(ranked(pool, Rule.of("dsv", "score_shift")).table)
    assert resolve_decision(("rtm",), 30).normal.names == ("rtm",)


def test_several_criteria_may_be_objects_and_a_users_own(pool, ranked):
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


class TestNames:
    """Classes of a user's own may have one name."""

    def test_scorers_of_one_name_are_named_with_their_modules(self, candidate, evidence, ranked):
        first, second, third = (
            replace(candidate(0.01), scorer=ScorerSpec(name)) for name in ("a:Knn", "b:Knn", "gaussian")
        )
        result = ranked({first: evidence(3.0), second: evidence(2.0), third: evidence(1.0)}, Rule.of("score_shift"))
        assert set(result.table.scorer) == {"a:Knn", "b:Knn", "gaussian"}
        assert len(set(result.descriptions.values())) == 3

    def test_one_alone_keeps_its_short_name(self, candidate, evidence, ranked):
        own = replace(candidate(0.01), scorer=ScorerSpec("a:Knn", {"k": 3}))
        result = ranked({own: evidence(3.0), candidate(0.01): evidence(2.0)}, Rule.of("score_shift"))
        assert set(result.table.scorer) == {"Knn (k 3)", "gaussian"}
        assert set(result.descriptions.values()) == {"cutout (area 0.01) [Knn (k 3)]", "cutout (area 0.01) [gaussian]"}

    def test_kinds_of_one_name_are_named_with_their_modules(self, candidate, evidence, ranked):
        pool = {
            replace(candidate(0.01), training=replace(candidate(0.01).training, detector=name)): evidence(shift)
            for name, shift in (("a:Mine", 3.0), ("b:Mine", 2.0))
        }
        words = set(ranked(pool, Rule.of("score_shift")).descriptions.values())
        assert words == {"cutout (area 0.01) [a:Mine]", "cutout (area 0.01) [b:Mine]"}
