"""What decides on an image that took part in the choice: the candidate that is chosen without it."""

import pytest
import torch

from detectors import preset
from selector.candidates import Candidate, Training
from selector.evidence import Evidence
from selector.jackknife import FOLDS, Held, choices, digest, held
from selector.ranking import choose, rank, rule

OK = {"status": "ok", "reason": ""}
CANDIDATES = [
    Candidate(Training("cutout", (("area", (a, a)),), "classifier", preset("quick"), 0), "gaussian")
    for a in (0.1, 0.2, 0.3)
]
RECORDS = {candidate.id: OK for candidate in CANDIDATES}


def evidence(n_test: int, seed: int = 0) -> dict[str, list[Evidence]]:
    """Two draws a candidate, whose test scores are noise."""
    source = torch.Generator().manual_seed(seed)
    found = {}
    for candidate in CANDIDATES:
        validation, test = torch.randn(30, generator=source).exp(), torch.randn(n_test, generator=source).exp()
        embedded = {
            name: torch.randn(n, 3, generator=source) for name, n in (("train", 9), ("augmented", 9), ("test", n_test))
        }
        one = Evidence(validation_scores=validation, augmented_scores=validation + 5, test_scores=test, **embedded)
        found[candidate.id] = [one, one]
    return found


def without(given: dict[str, list[Evidence]], row: int) -> dict[str, list[Evidence]]:
    kept = torch.arange(len(given[CANDIDATES[0].id][0].test_scores)) != row
    return {i: [one.with_rows(test=kept, test_scores=kept) for one in draws] for i, draws in given.items()}


@pytest.mark.parametrize("criterion", ["auto", "rtm", "dsv"])
def test_the_choice_is_the_first_of_the_ranking(criterion):
    given, deciding = evidence(30), rule(criterion, 30)
    ranking = rank(CANDIDATES, RECORDS, given, deciding, seed=0).table
    assert choose(CANDIDATES, RECORDS, given, deciding) == ranking.candidate[0]


@pytest.mark.parametrize(("criterion", "seed"), [("auto", 1), ("dsv", 2)])
def test_of_few_images_each_is_left_out_alone(criterion, seed):
    given, deciding = evidence(FOLDS, seed), rule(criterion, 30)
    expected = [choose(CANDIDATES, RECORDS, without(given, row), deciding) for row in range(FOLDS)]
    assert choices(CANDIDATES, RECORDS, given, deciding, seed=0) == expected
    assert len(set(expected)) > 1


def test_an_image_has_no_say_in_what_decides_on_it():
    given, deciding = evidence(90), rule("score_shift", 30)
    before, best = choices(CANDIDATES, RECORDS, given, deciding, seed=0), choose(CANDIDATES, RECORDS, given, deciding)
    other = next(c.id for c in CANDIDATES if c.id != best)
    for row in (0, 40, 89):
        (one, *_), pushed = given[other], given[other][0].test_scores.clone()
        pushed[row] *= 1e36
        moved = given | {other: 2 * [Evidence(**dict(one.items()) | {"test_scores": pushed})]}
        assert choose(CANDIDATES, RECORDS, moved, deciding) == other
        assert choices(CANDIDATES, RECORDS, moved, deciding, seed=0)[row] == before[row]


def test_folds_are_as_even_as_can_be_and_of_the_seed():
    seen = []

    def spy(one):
        seen.append(len(one.test_scores))
        return 1.0

    given, deciding = evidence(90), rule(spy, 30)
    assert choices(CANDIDATES, RECORDS, given, deciding, seed=0) == 90 * [CANDIDATES[0].id]
    assert set(seen) == {90 - 5, 90 - 4}


def test_only_images_with_another_choice_are_kept_and_known_by_their_pixels():
    images = torch.rand(3, 1, 4, 4)
    assert held("a", ["a", "b", "a"], images) == (Held(1, digest(images[1].clone()), "b"),)
    assert len({digest(image) for image in images}) == 3
