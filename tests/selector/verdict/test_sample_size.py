"""Doubts about numbers of images: told of the default where it was measured, and of nothing else."""

import pytest

from selector.ranking.rules import rule
from selector.verdict import sample_size as counts


@pytest.fixture(autouse=True)
def told(monkeypatch):
    monkeypatch.setattr(counts, "TOLD_VALIDATION", 20)
    monkeypatch.setattr(counts, "TOLD_TEST", 10)


@pytest.mark.parametrize(
    ("n_validation", "n_test", "few"),
    [(20, 10, []), (19, 10, ["19 validation"]), (20, 9, ["9 test"]), (3, 2, ["3 validation", "2 test"]), (3, 0, [])],
)
def test_every_set_that_is_too_small_is_told(n_validation, n_test, few):
    sentences = counts.doubts(rule("auto", n_validation, n_test > 0), n_validation, n_test)
    assert [" ".join(sentence.split()[:2]) for sentence in sentences] == few
    assert all("random pick" in sentence for sentence in sentences)


def test_nothing_is_said_of_a_criterion_that_the_user_named():
    assert counts.doubts(rule("rtm", 3), 3, 2) == []
