"""Which candidate of a zoo needs no choice."""

import pandas as pd
import pytest

from benchmarks.evaluation.always import ALWAYS, always_taken, kind_and_settings
from benchmarks.suites import definitions as suites
from detectors import get_preset
from selector.zoo.candidates import kinds_in_words
from selector.zoo.plan import Plan

FROZEN = "frozen (score locations, neighbourhood 3)"


def zoo(*rows):
    return pd.DataFrame(rows, columns=["detector", "scorer"], index=[f"c{i}" for i in range(len(rows))])


def test_the_zoo_of_auto_has_one_candidate_for_each_row():
    """As a benchmark describes them: the one whose settings these are."""
    suite = suites.get("development-auto")
    candidates = Plan.joined(suite.zoo, get_preset(suite.preset)).candidates(0)
    words = kinds_in_words(candidates)
    described = zoo(*((words[c.id], c.scorer.describe()) for c in candidates)).set_axis([c.id for c in candidates])
    settings = {c.id: c.training.settings for c in candidates}
    frozen = settings[always_taken("always_frozen", described)]
    assert (frozen.score, frozen.neighbourhood) == ("locations", 3)
    assert settings[always_taken("always_frozen_pooled", described)].score == "pooled"
    assert words[always_taken("always_pixels", described)] == "pixels"


def test_another_scorer_or_neighbourhood_is_another_candidate():
    other = "frozen (score locations, neighbourhood 1)"
    assert always_taken("always_frozen", zoo((other, "gaussian"), (FROZEN, "knn (memory 3000)"))) is None
    assert always_taken("always_frozen", zoo((other, "gaussian"), (FROZEN, "gaussian"))) == "c1"


@pytest.mark.parametrize("row", list(ALWAYS))
def test_nothing_is_taken_where_there_is_none_or_one_would_have_to_choose(row):
    twice = [("frozen (score pooled)", "gaussian"), ("pixels (side 4)", "gaussian"), (FROZEN, "gaussian")]
    assert always_taken(row, zoo(("classifier", "gaussian"), ("frozen", "gaussian"))) is None
    assert always_taken(row, zoo(*twice)) is not None
    assert always_taken(row, zoo(*twice, *twice)) is None


def test_a_kind_and_its_settings_are_read_as_they_are_written():
    assert kind_and_settings("pixels") == ("pixels", frozenset())
    assert kind_and_settings(FROZEN) == ("frozen", {"score locations", "neighbourhood 3"})
