"""The contract of criteria: all built-in ones keep it, one of a user's can, and it finds what breaks it."""

import math

import pytest
import torch

from selector import criteria
from selector.criteria import Criterion
from selector.testing.criterion import TRANSFORMATIONS, CriterionContract
from selector.testing.values import NOT_FINITE

TEST = ("test_scores",)
UNIT = "measures in the units of embeddings, which are published with length 1"
DISTANCE = "says how far scores lie, in logarithms of distances, and not in what order"
# By transformation the criteria whose value changes with it, and why: all others keep theirs.
SENSITIVITIES = {
    "embeddings about another origin": {"mmd_poly": "its kernel is of inner products, which know the origin"},
    "embeddings in another unit": dict.fromkeys(
        ("mmd_linear", "mmd_rbf", "mmd_poly", "mean_distance", "negative_std"), UNIT
    ),
    "other scores about another zero": {"rtm": "is relative to the median score, as published"},
    "powers of distances": dict.fromkeys(("rtm", "npd"), "takes scores as they are, as published"),
    "scores in the same order": dict.fromkeys(
        ("score_shift", "score_wasserstein", "score_q90", "score_q75", "score_q95", "score_variance",
         "score_pearson_skew", "score_skewness", "score_otsu", "rtm", "npd"),
        DISTANCE,
    ),
}  # fmt: skip


class TestCriteria(CriterionContract):
    @pytest.fixture(params=criteria.names())
    def subject(self, request):
        return criteria.get(request.param)

    def sensitivities(self, subject):
        return {name: found[subject.name] for name, found in SENSITIVITIES.items() if subject.name in found}

    def is_zero_for_equal_embeddings(self, subject):
        """The discordance is a ratio whose denominator is published with an offset."""
        return subject.name == "discordance" or super().is_zero_for_equal_embeddings(subject)


def test_sensitivities_are_of_transformations_and_criteria_that_exist():
    assert set(SENSITIVITIES) <= set(TRANSFORMATIONS)
    assert {name for found in SENSITIVITIES.values() for name in found} <= set(criteria.names())


def share_of_pairs_above(evidence):
    """A user's own criterion."""
    v, t = evidence.validation_scores, evidence.test_scores
    hides = ~(v.isfinite().all() & t.isfinite().all())
    exceeds = (t[:, None] > v).double().mean()
    return torch.where(hides, math.nan, exceeds)


class TestCustomCriterion(CriterionContract):
    """A criterion that is not registered."""

    @pytest.fixture
    def subject(self):
        needs = ("validation_scores", "test_scores")
        return Criterion("custom", True, needs, "the user", share_of_pairs_above, "Share of pairs above.")


BROKEN = {
    "test_it_varies_with_everything_that_it_declares": lambda t: 0 * t.sum(),
    "test_the_order_of_samples_does_not_matter": lambda t: t[0],
    "test_it_is_deterministic": lambda t: t.mean() + torch.rand(()),
    "test_it_leaves_its_inputs_alone": lambda t: t.sub_(1).sum(),
    "test_arrays_and_tensors_of_either_precision_agree": lambda t: t.sum() * t.itemsize,
    "test_it_is_one_finite_number_in_full_precision": lambda t: t.float().mean(),
}


@pytest.mark.parametrize("statement", BROKEN)
def test_the_contract_finds_what_breaks_it(statement):
    broken = Criterion("broken", True, TEST, "", lambda evidence: BROKEN[statement](evidence.test_scores), "")
    with pytest.raises(AssertionError):
        getattr(CriterionContract(), statement)(broken)


def test_the_contract_finds_what_is_read_and_not_declared():
    secret = Criterion("secret", True, TEST, "", lambda e: e.test_scores.mean() + e.train.mean(), "")
    with pytest.raises(AssertionError):
        CriterionContract().test_it_varies_with_nothing_else(secret)


def test_the_contract_finds_what_hides_that_a_score_is_not_finite():
    median = Criterion("median", True, TEST, "", lambda evidence: evidence.test_scores.nanmedian(), "")
    for bad in NOT_FINITE:
        with pytest.raises(AssertionError):
            CriterionContract().test_what_is_not_finite_never_gives_a_plausible_value(median, bad)


def test_the_contract_finds_a_value_that_scores_in_another_unit_change():
    mean = Criterion("mean", True, TEST, "", lambda evidence: evidence.test_scores.mean(), "")
    with pytest.raises(AssertionError):
        CriterionContract().test_it_changes_with_what_its_definition_says_and_no_more(mean, "distances in another unit")
