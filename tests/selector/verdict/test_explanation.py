"""The explanation of a ranking: preferences, agreement and what is not available, against the usual libraries."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kendalltau

from selector import consensus, criteria
from selector.ranking.ranking import Ranking
from selector.ranking.rules import Rule
from selector.verdict.explanation import explain

HIGHER, LOWER = "score_shift", "dsv"
ALONE = Rule.of(HIGHER)


def ranking(values, rule=ALONE, statuses=None):
    """Candidates of these criterion values, which come in the order of the rows."""
    values = pd.DataFrame(values)
    count = len(values)
    setup = {
        "rank": range(1, count + 1),
        "candidate": [f"{7 * i % 97:012x}" for i in range(count)],
        "augmentation": ["cutout", "cutpaste"] * (count // 2) + ["cutout"] * (count % 2),
        "hyperparameters": [{"area": (0.01 * (i + 1), 0.5)} for i in range(count)],
        **{"detector": "classifier", "scorer": "gaussian", "seed": 0},
        "criterion": np.linspace(1, 0, count) if rule.is_borda else values[rule.names[0]],
        "status": statuses or ["ok"] * count,
    }
    table = pd.DataFrame(setup).assign(reason="", **values, tied=False)
    spread = values.set_index(table.candidate) * 0
    return Ranking(table, spread, rule, math.nan, math.nan, math.nan)


@pytest.fixture
def values():
    """Nine candidates, with ties and gaps."""
    source = np.random.default_rng(0)
    drawn = {name: source.integers(0, 5, 9).astype(float) for name in (HIGHER, LOWER, "rtm", "alignment")}
    drawn[HIGHER] = np.sort(drawn[HIGHER])[::-1]
    drawn["rtm"][[2, 5]] = np.nan
    return drawn


@pytest.fixture
def scores():
    source = torch.Generator().manual_seed(0)
    return {i: torch.randn(40, generator=source) for i in ranking({HIGHER: np.arange(9.0)}).table.candidate}


def test_agreement_is_scipys_kendall_pair_by_pair(values, scores):
    result = ranking(values)
    agreement = explain(result, scores).agreement
    ids = sorted(scores)
    families = list(result.table.set_index("candidate").augmentation[ids])
    consensus_values = consensus.evaluate(torch.stack([scores[i] for i in ids], 1), families=families)
    higher = result.table.set_index("candidate")[list(values)].assign(
        **{LOWER: lambda t: -t[LOWER], "alignment": lambda t: -t.alignment},
        **{name: pd.Series(column.numpy(), ids) for name, column in consensus_values.items()},
    )
    assert not criteria.get(LOWER).higher_is_better
    assert list(agreement) == list(agreement.index) == [*values, *consensus.names()]
    for one, other in combinations(higher, 2):
        both = higher[[one, other]].dropna()
        expected = kendalltau(both[one], both[other]).statistic
        assert agreement[one][other] == agreement[other][one] == pytest.approx(expected, abs=1e-12)
    assert (np.diag(agreement) == 1).all()


def test_a_criterion_that_is_the_same_for_all_agrees_with_none(values):
    agreement = explain(ranking(values | {"rtm": np.ones(9)}), {}).agreement
    assert agreement["rtm"].drop("rtm").isna().all()


def test_each_prefers_its_best_candidate_in_its_own_direction(values, scores):
    result = ranking(values)
    preferred = explain(result, scores).preferred.set_index("criterion")
    table = result.table.set_index("candidate")
    assert list(preferred.index) == [*values, *consensus.names()]
    for name in values:
        best = table[name].max() if criteria.get(name).higher_is_better else table[name].min()
        assert preferred.value[name] == best
        assert preferred["rank"][name] == table["rank"][table[name] == best].min()  # of equals the first
        assert table["rank"][preferred.candidate[name]] == preferred["rank"][name]
    assert preferred.kind.tolist() == ["criterion"] * 4 + ["consensus"] * len(consensus.names())
    assert preferred.decides.tolist() == [True] + [False] * (len(preferred) - 1)
    assert preferred.description[HIGHER] == "cutout (area 0.01 to 0.5)"


def test_consensus_is_of_the_trusted_candidates_whatever_their_order(values, scores):
    statuses = ["ok"] * 6 + ["collapsed"] * 2 + ["failed"]
    result = ranking(values, statuses=statuses)
    explanation = explain(result, scores)
    trusted = result.table.candidate[:6]
    mc = consensus.evaluate(torch.stack([scores[i] for i in trusted], 1), ["mc"])["mc"]
    preferred = explanation.preferred.set_index("criterion")
    assert preferred.value["mc"] == mc.max()
    assert preferred["rank"]["mc"] == int(mc.argmax()) + 1
    shuffled = replace(result, table=result.table.sample(frac=1, random_state=0))
    again = explain(shuffled, dict(reversed(list(scores.items()))))
    pd.testing.assert_frame_equal(again.agreement, explanation.agreement)
    pd.testing.assert_series_equal(again.preferred.value, explanation.preferred.value)


def test_borda_has_a_row_among_those_that_agree(values):
    explanation = explain(ranking(values, Rule.of(HIGHER, LOWER)), {})
    assert explanation.deciding == explanation.agreement.index[0] == "Borda"
    assert "Borda" not in explanation.preferred.criterion.tolist()
    assert explanation.preferred.decides.tolist() == [True, True, False, False]
    falling = -np.arange(9.0)
    expected = kendalltau(falling, values[HIGHER]).statistic
    assert explanation.with_deciding()[HIGHER] == pytest.approx(expected)


def test_a_criterion_without_any_value_prefers_nobody(values):
    explanation = explain(ranking(values | {"rtm": np.full(9, np.nan)}), {})
    assert "rtm" not in explanation.preferred.criterion.tolist()
    assert explanation.agreement["rtm"].isna().all()


def test_without_test_images_there_is_no_consensus(values):
    explanation = explain(ranking(values), {})
    assert set(explanation.preferred.kind) == {"criterion"}
    assert explanation.absent["Consensus"] == "needs test images"


def test_one_candidate_has_preferences_and_no_agreement(scores):
    explanation = explain(ranking({HIGHER: [2.0], LOWER: [1.0]}), dict(list(scores.items())[:1]))
    assert explanation.preferred["rank"].tolist() == [1, 1]
    assert explanation.agreement.empty
    assert explanation.importances.empty
    assert set(explanation.absent) == {"Consensus", "Agreement", "Importance within cutout"}
    assert str(explanation).startswith("2 of 2 criteria and consensus functions prefer the chosen candidate.")


def test_where_all_collapsed_there_is_no_explanation(values):
    explanation = explain(ranking(values, statuses=["collapsed"] * 9), {})
    assert explanation.preferred.empty
    assert explanation.agreement.empty
    assert explanation.importances.empty
    assert str(explanation) == "Not available: Everything: no candidate has status ok"


def test_it_reads_well_in_a_terminal(values, scores):
    text = str(explain(ranking(values), scores))
    assert text == str(explain(ranking(values), scores))
    assert max(map(len, text.splitlines())) <= 100
    assert "\n1. cutout (area 0.01 to 0.5), preferred by: score_shift 4" in text
    assert "\nAgreement with score_shift: " in text
    assert "nan" not in text
