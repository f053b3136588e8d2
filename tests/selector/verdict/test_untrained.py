"""Whether learning pseudo anomalies earns its cost, in words."""

import math

import pandas as pd
import pytest

from detectors import Classifier, ScorerSpec, get_preset
from detectors.frozen import FrozenSettings
from detectors.pixels import Pixels
from selector.ranking.ranking import Ranking
from selector.ranking.rules import Rule
from selector.verdict.untrained import needs_no_training, worth_of_training
from selector.zoo.candidates import Candidate, Training

QUICK = get_preset("quick")
SCORER = ScorerSpec("gaussian")
LEARNS = Candidate(Training("classifier", Classifier.settings_for(QUICK), "cutout", (("area", (0.1, 0.1)),), 0), SCORER)
FROZEN = Candidate(Training("frozen", FrozenSettings(64), None, (), 0), SCORER)
PIXELS = Candidate(Training("pixels", Pixels.settings_for(QUICK), None, (), 0), SCORER)


def said(*order, tied=(), collapsed=()):
    rows = [
        {
            **{"rank": place, "candidate": one.id, "augmentation": one.augmentation, "criterion": 1 / place},
            **{"hyperparameters": one.hyperparameters, "detector": one.training.detector, "scorer": "Gaussian"},
            **{"status": "collapsed" if one in collapsed else "ok", "tied": one in tied},
        }
        for place, one in enumerate(order, start=1)
    ]
    ranking = Ranking(pd.DataFrame(rows), pd.DataFrame(), Rule.of("rtm"), math.nan, math.nan, math.nan)
    return worth_of_training(ranking, {one.id: one for one in order})


def test_only_what_is_used_as_it_is_needs_no_training():
    assert [needs_no_training(one) for one in (LEARNS, FROZEN, PIXELS)] == [False, True, True]


def test_the_best_without_training_comes_before_all_that_learn():
    (sentence,) = said(PIXELS, FROZEN, LEARNS)
    assert sentence.startswith("In this ranking nothing shows that learning")
    assert "without any training pixels comes in place 1 (rtm = 1)" in sentence


def test_the_best_without_training_is_as_good_as_the_first():
    (sentence,) = said(LEARNS, FROZEN, PIXELS, tied=(LEARNS, FROZEN))
    assert sentence.startswith("In this ranking hardly anything shows that learning")
    assert "frozen comes in place 2 (rtm = 0.5) and can't be distinguished" in sentence


def test_what_learns_is_ahead():
    (sentence,) = said(LEARNS, FROZEN, PIXELS, tied=(LEARNS,))
    assert "learning pseudo anomalies earns its cost" in sentence
    assert (
        "cutout (area 0.1) [classifier] comes in place 1, and the best without any training, frozen, in place 2"
        in sentence
    )


@pytest.mark.parametrize(
    ("order", "collapsed"), [((LEARNS,), ()), ((FROZEN, PIXELS), ()), ((FROZEN, LEARNS), (LEARNS,))]
)
def test_of_one_sort_alone_nothing_is_said(order, collapsed):
    assert said(*order, collapsed=collapsed) == []
