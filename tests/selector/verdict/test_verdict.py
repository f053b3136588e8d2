"""The answer in words."""

import pytest

from detectors import Classifier, ScorerSpec, preset
from selector.verdict.verdict import recommendation
from selector.zoo.candidates import Candidate, Training

SETTINGS = Classifier.settings_for(preset("quick"))


def candidate(area: float, seed: int = 0) -> Candidate:
    return Candidate(
        Training("classifier", SETTINGS, "cutout", (("area", (area, area)),), seed), ScorerSpec("gaussian")
    )


@pytest.mark.parametrize("count", [2, 4, 6])
def test_the_recommendation_names_the_first_few_of_its_members(count):
    members = [candidate(0.01 * place) for place in range(1, count + 1)]
    (message,) = recommendation(members)
    assert f"the best {count} together" in message
    named = [member.describe() in message for member in members]
    assert named == [False, True, True, True, False, False][:count]
    assert (f"and {count - 4} more" in message) == (count > 4)
