"""What decides: the rule of a name, a criterion or several, and Borda."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest

from augmentations import InputError
from selector.criteria import Criterion, get
from selector.ranking.cross_fit import correction_of
from selector.ranking.rules import (
    ACROSS_KINDS,
    AUTO,
    GOES_BY,
    UNDER_SHIFT,
    borda,
    chosen_members,
    resolve_decision,
)


def spread_of_tests(evidence):
    """How much the test scores vary.

    More is not said.
    """
    return evidence.test_scores.log().std()


def test_auto_is_borda_whatever_the_number_of_validation_images():
    for n_validation in (3, 20, 200):
        assert resolve_decision("auto", n_validation).normal.names == AUTO


def test_without_test_images_auto_is_pseudo_anomaly_validation():
    assert resolve_decision("auto", 20, has_test=False).normal.names == ("pseudo_auc", "npd")
    few = resolve_decision("auto", 19, has_test=False).normal
    assert few.names == ("pseudo_auc",)
    assert "19 validation images" in few.reason
    assert resolve_decision("npd", 3, has_test=False).normal.names == ("npd",)
    with pytest.raises(InputError, match=r"'pu_auc'.*none were given"):
        resolve_decision("pu_auc", 100, has_test=False)


def test_an_unknown_criterion_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"dvs.*dsv"):
        resolve_decision("dvs", 100)


@pytest.mark.parametrize("several", [(), ("rtm", "rtm"), ("rtm", spread_of_tests), ("rtm", "auto"), ("rtm", "rmt")])
def test_several_that_are_no_names_are_refused(several):
    with pytest.raises(InputError, match="criterion"):
        resolve_decision(several, 30)


def test_several_of_which_one_needs_test_images_are_refused_without_them():
    with pytest.raises(InputError, match=r"'rtm'.*test images"):
        resolve_decision(("pseudo_auc", "rtm"), 30, has_test=False)


def table_of(values, statuses=None):
    statuses = statuses or ["ok"] * len(values)
    return pd.DataFrame({"candidate": list("abcdefgh")[: len(values)], "status": statuses, "dsv": values})


def test_every_second_member_is_the_best_of_the_others_by_the_complement():
    table = table_of([5.0, 1.0, math.nan, 4.0, 0.5, 0.0], ["ok"] * 5 + ["collapsed"])
    chosen = {count: chosen_members(table, count, get("dsv")) for count in range(1, 9)}
    assert chosen[1] == ("a",)
    assert chosen[2] == ("a", "e")
    assert chosen[3] == ("a", "b", "e")
    assert chosen[4] == ("a", "b", "e", "d")
    assert chosen[5] == ("a", "b", "c", "e", "d")
    assert chosen[8] == ("a", "b", "c", "d", "e")
    assert chosen_members(table, 3) == ("a", "b", "c")
    assert chosen_members(table.drop(columns="dsv"), 2, get("dsv")) == ("a", "b")
    assert chosen_members(table_of([math.nan] * 3), 2, get("dsv")) == ("a", "b")
    assert chosen_members(table_of([1.0, 2.0], ["collapsed"] * 2), 2, get("dsv")) == ("a",)


def test_only_the_rule_between_kinds_has_a_complement_and_it_leaves_the_order_alone():
    decision = resolve_decision("auto", 30)
    assert decision.across_kinds.complement is get("dsv")
    assert "dsv" not in decision.across_kinds.names
    assert decision.normal.complement is decision.under_shift.complement is None
    assert resolve_decision("auto", 30, has_test=False).across_kinds.complement is None
    assert resolve_decision("rtm", 30).across_kinds.complement is None
    assert correction_of(decision, has_test=True, search_learns=False).is_corrected


def test_borda_shares_are_those_counted_pair_by_pair():
    source = np.random.default_rng(0)
    values = pd.DataFrame(source.integers(0, 4, (7, 3)).astype(float), columns=list("abc"), index=list("tuvwxyz"))
    values.loc["v", "b"] = math.nan
    directions = {"a": True, "b": False}
    reference = values.loc[["u", "v", "w"]]
    for others in (values, reference):
        for row in values.index:
            against = [other for other in others.index if other != row]
            points = 0.0
            for name, higher in directions.items():
                sign = 1 if higher else -1
                mine, theirs = sign * values[name][row], sign * others[name][against]
                points += (mine > theirs).sum() + (mine == theirs).sum() / 2
            share = borda(values, directions, others)[row]
            assert share == pytest.approx(points / (2 * len(against)))
    assert borda(values, directions).equals(borda(values, directions, values))


def test_a_decision_holds_both_rules():
    decision = resolve_decision("auto", 30)
    assert decision.given(False) is decision.normal
    assert decision.given(True) is decision.under_shift
    assert (decision.normal.names, decision.under_shift.names) == (AUTO, UNDER_SHIFT)
    assert decision.required_fields == {"validation_scores", "test_scores", "pseudo_scores"}
    chosen = resolve_decision("dsv", 30)
    assert chosen.normal is chosen.under_shift


SCORES_ALONE = frozenset(("validation_scores", "test_scores"))


class TestFewerCriteria:
    """Of the criteria of "auto" those decide that all candidates support, and the reason is true of them."""

    @pytest.mark.parametrize("is_shifted", [False, True])
    def test_the_reason_names_what_decides_and_what_is_left_out(self, is_shifted):
        whole = resolve_decision("auto", 30).given(is_shifted)
        reduced = whole.supported_by([SCORES_ALONE, SCORES_ALONE | {"pseudo_scores"}])
        left_out = [name for name in whole.names if name not in reduced.names]
        assert left_out == (["npd"] if is_shifted else ["pseudo_auc", "npd"])
        for name in left_out:
            assert name in reduced.reason
        assert "not every candidate has pseudo_scores" in reduced.reason
        assert "pseudo anomalies" not in reduced.reason
        assert reduced.reason != whole.reason
        assert not reduced.is_user_chosen
        assert ("do not resemble" in reduced.reason) == is_shifted

    def test_where_all_are_supported_or_the_user_chose_nothing_changes(self):
        whole = resolve_decision("auto", 30).normal
        assert whole.supported_by([SCORES_ALONE | {"pseudo_scores"}]) is whole
        chosen = resolve_decision(("rtm", "npd"), 30).normal
        assert chosen.supported_by([SCORES_ALONE]) is chosen

    def test_every_criterion_of_the_default_says_what_it_goes_by(self):
        assert set(GOES_BY) == {*AUTO, *ACROSS_KINDS}


class TestCustomCriterion:
    @pytest.mark.parametrize(
        ("criterion", "message"),
        [
            (lambda evidence: 1.0, "no name.*def"),
            (partial(spread_of_tests), "no name.*def"),
            (Criterion("rtm", True, (), "me", spread_of_tests, ""), "another column.*rename"),
            (Criterion("reason", True, (), "me", spread_of_tests, ""), "another column.*rename"),
            (Criterion("hits", True, (), "me", spread_of_tests, ""), "of a consensus.*rename"),
            (Criterion("mine", True, ("truth",), "me", spread_of_tests, ""), "'truth', which is not a field"),
            (3, "is not a criterion"),
        ],
    )
    def test_what_can_have_no_column_is_refused(self, criterion, message):
        with pytest.raises(InputError, match=message):
            resolve_decision(criterion, 30)

    def test_a_built_in_criterion_can_be_given_itself(self):
        assert resolve_decision(get("dsv"), 30).normal == resolve_decision("dsv", 30).normal

    def test_one_that_needs_test_images_is_refused_without(self):
        with pytest.raises(InputError, match="none were given"):
            resolve_decision(Criterion("mine", True, ("test",), "me", spread_of_tests, ""), 30, has_test=False)
