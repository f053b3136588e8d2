"""The answer in words."""

import math

import pandas as pd
import pytest

from detectors import Classifier, ScorerSpec, get_preset
from selector.ranking.ranking import Ranking
from selector.ranking.rules import Rule
from selector.verdict.verdict import recommendation
from selector.zoo.candidates import Candidate, Training, describe

SETTINGS = Classifier.settings_for(get_preset("quick"))


def candidate(area: float, scorer: str = "gaussian") -> Candidate:
    return Candidate(Training("classifier", SETTINGS, "cutout", (("area", (area, area)),), 0), ScorerSpec(scorer))


def ranking(members: list[Candidate]) -> Ranking:
    rows = [
        {
            "candidate": member.id,
            "augmentation": member.augmentation,
            "hyperparameters": member.hyperparameters,
            "detector": member.training.detector,
            "scorer": member.scorer.describe(),
        }
        for member in members
    ]
    return Ranking(pd.DataFrame(rows), pd.DataFrame(), Rule.of("rtm"), math.nan, math.nan, math.nan)


@pytest.mark.parametrize("count", [2, 4, 6])
def test_the_recommendation_names_the_first_few_of_its_members(count):
    members = [candidate(0.01 * place) for place in range(1, count + 1)]
    (message,) = recommendation(ranking(members), members)
    assert f"the best {count} together" in message
    named = [describe("classifier", member.augmentation, member.hyperparameters) in message for member in members]
    assert named == [False, True, True, True, False, False][:count]
    assert (f"and {count - 4} more" in message) == (count > 4)


def test_a_single_member_is_no_recommendation_of_its_own():
    members = [candidate(0.01)]
    assert recommendation(ranking(members), members) == []


def test_scorers_are_named_where_they_vary():
    members = [candidate(0.01), candidate(0.01, "own_parts:Knn")]
    assert "The others are cutout (area 0.01) [Knn]." in recommendation(ranking(members), members)[0]
