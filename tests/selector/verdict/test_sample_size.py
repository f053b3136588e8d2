"""Warnings of too few images: of the default rule where that was measured, and of nothing else."""

import pytest

from selector.ranking.rules import resolve_decision
from selector.verdict import sample_size


@pytest.fixture(autouse=True)
def minimums(monkeypatch):
    monkeypatch.setattr(sample_size, "MIN_VALIDATION_IMAGES", 20)
    monkeypatch.setattr(sample_size, "MIN_TEST_IMAGES", 10)


@pytest.mark.parametrize(
    ("n_validation", "n_test", "few"),
    [(20, 10, []), (19, 10, ["19 validation"]), (20, 9, ["9 test"]), (3, 2, ["3 validation", "2 test"]), (3, 0, [])],
)
def test_every_set_that_is_too_small_is_named(n_validation, n_test, few):
    sentences = sample_size.sample_size_warnings(
        resolve_decision("auto", n_validation, n_test > 0).normal, n_validation, n_test
    )
    assert [" ".join(sentence.split()[:2]) for sentence in sentences] == few
    assert all("random pick" in sentence for sentence in sentences)


def test_nothing_is_said_of_a_criterion_that_the_user_named():
    assert sample_size.sample_size_warnings(resolve_decision("rtm", 3).normal, 3, 2) == []
