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
    [
        (20, 10, []),
        (19, 10, ["19 validation"]),
        (20, 9, ["9 test"]),
        (3, 2, ["3 validation", "2 test"]),
        (3, 0, ["3 validation"]),
    ],
)
def test_every_set_that_is_too_small_is_named(n_validation, n_test, few):
    sentences = sample_size.sample_size_warnings(
        resolve_decision("auto", n_validation, n_test > 0).normal, n_validation, n_test
    )
    assert [" ".join(sentence.split()[:2]) for sentence in sentences] == few
    assert all("random pick" in sentence for sentence in sentences)


def test_a_group_counts_once():
    rule = resolve_decision("auto", 60).normal
    (sentence,) = sample_size.sample_size_warnings(rule, 60, 10, n_validation_groups=4)
    assert sentence.startswith("4 validation groups are few: below 20")
    assert sample_size.sample_size_warnings(rule, 60, 10, n_validation_groups=20) == []


@pytest.mark.parametrize("is_shifted", [False, True])
def test_a_default_of_fewer_criteria_does_not_silence_them_and_claims_no_more_than_was_measured(is_shifted):
    whole = resolve_decision("auto", 3).given(is_shifted)
    reduced = whole.supported_by([frozenset(("validation_scores", "test_scores"))])
    assert len(reduced.criteria) < len(whole.criteria)
    of_whole, of_reduced = (sample_size.sample_size_warnings(rule, 3, 2) for rule in (whole, reduced))
    assert len(of_whole) == len(of_reduced) == 2
    assert all("all criteria of the default, of which fewer decide here" in sentence for sentence in of_reduced)
    assert not any("fewer decide here" in sentence for sentence in of_whole)


def test_nothing_is_said_of_a_criterion_that_the_user_named():
    assert sample_size.sample_size_warnings(resolve_decision("rtm", 3).normal, 3, 2) == []


def test_between_kinds_nothing_is_claimed_that_was_measured_of_one_kind_alone():
    rule = resolve_decision("auto", 3).given(is_shifted=False, n_kinds=2)
    assert all(
        "between candidates of one kind" in sentence for sentence in sample_size.sample_size_warnings(rule, 3, 2)
    )


def test_a_sample_of_the_pairs_is_said_with_its_size():
    assert sample_size.sampled_pairs({"train": 8192, "test": 8192}) == []
    (sentence,) = sample_size.sampled_pairs({"train": 400, "test": 100_000})
    assert "8,192 random ones of the 100,000 test images" in sentence
    (sentence,) = sample_size.sampled_pairs({"train": 9_000, "test": 100_000})
    assert "9,000 train and of the 100,000 test images" in sentence
