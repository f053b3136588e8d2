"""Evidence: what it takes, what it refuses, and what it works out."""

import dataclasses

import numpy as np
import pytest
import torch

from augmentations.errors import InputError
from selector.evidence.evidence import EMBEDDINGS, SCORES, Evidence
from selector.evidence.pairwise import Pairwise

EXPECTED_FIELDS = {*EMBEDDINGS, *SCORES, "score_is_distance", "pseudo_families"}


def test_no_field_can_hold_a_label():
    assert {field.name for field in dataclasses.fields(Evidence)} == EXPECTED_FIELDS


def test_arrays_lists_and_tensors_become_tensors_in_their_precision():
    evidence = Evidence(train=np.ones((3, 2)), test=torch.ones(4, 2, dtype=torch.float32), test_scores=[1, 2, 3])
    assert evidence.train.dtype == torch.float64
    assert evidence.test.dtype == torch.float32
    assert evidence.test_scores.dtype == torch.float32
    assert dict(evidence.items()).keys() == {"train", "test", "test_scores"}


def test_what_is_there():
    evidence = Evidence(train=torch.ones(3, 2))
    assert evidence.has(("train",))
    assert not evidence.has(("train", "test"))
    assert evidence.has(())


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"train": np.ones(3)}, "train of shape"),
        ({"train": np.ones((3, 2, 2))}, "train of shape"),
        ({"test": np.ones((0, 2))}, "non-empty"),
        ({"test": np.ones((2, 0))}, "non-empty"),
        ({"test_scores": np.ones((3, 1))}, "test_scores of shape"),
        ({"validation_scores": np.ones(0)}, "non-empty"),
        ({"train": np.ones((3, 2)), "test": np.ones((3, 4))}, "test of width 4.*width 2"),
    ],
)
def test_bad_shapes_are_refused(bad, rule):
    with pytest.raises(InputError, match=rule):
        Evidence(**bad)


@pytest.mark.parametrize(("scores", "distance"), [([1.0, 2.0], True), ([0.0, 2.0], False), ([-1.0, 2.0], False)])
def test_positive_scores_are_taken_for_distances_unless_said(scores, distance):
    positive = np.array([1.0, 2.0])
    assert Evidence(validation_scores=positive, test_scores=scores).score_is_distance is distance
    assert Evidence(test_scores=scores, score_is_distance=not distance).score_is_distance is not distance


def test_rows_can_be_taken_again():
    evidence = Evidence(train=torch.ones(3, 2), test_scores=torch.tensor([1.0, 2.0, -3.0]))
    again = evidence.subset(test_scores=torch.tensor([0, 0, 1]))
    assert again.test_scores.tolist() == [1, 1, 2]
    assert again.train is evidence.train
    assert again.score_is_distance is False  # a bootstrap does not change what kind of scores they are


def test_pairs_are_made_once_and_need_three_sets():
    rows = torch.ones(3, 2)
    evidence = Evidence(rows, rows, rows)
    assert isinstance(evidence.pairwise, Pairwise)
    assert evidence.pairwise is evidence.pairwise
    with pytest.raises(InputError, match="needs augmented, test"):
        _ = Evidence(rows).pairwise


def test_what_is_absent_is_named_with_who_needs_it():
    evidence = Evidence(test_scores=[1.0, 2.0], train=torch.ones(3, 2))
    assert evidence.available == {"test_scores", "train"}
    (scores,) = evidence.require(("test_scores",), by="mine")
    assert scores is evidence.test_scores
    with pytest.raises(InputError, match="mine: needs test, validation, which the evidence lacks; pass Evidence"):
        evidence.require(("test", "train", "validation"), by="mine")


def test_the_fields_say_what_they_hold():
    assert EMBEDDINGS == ("train", "augmented", "test", "validation")
    assert SCORES == ("validation_scores", "augmented_scores", "test_scores", "pseudo_scores")
