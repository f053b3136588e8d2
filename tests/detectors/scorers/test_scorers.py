"""Every registered scorer keeps the contract, and so does one from outside that has a setting."""

import pytest
import torch

from augmentations import InputError
from detectors import scorers
from detectors.scorers import SCORERS, Scorer, ScorerSpec
from selector.testing.scorer import ScorerContract


class NearestNeighbours(Scorer):
    """The logarithm of the distance to the k-th nearest row: a scorer with a setting, and scores of either sign."""

    name = "nearest_neighbours"

    bank: torch.Tensor

    def __init__(self, k: int = 3) -> None:
        super().__init__(k=k)

    def fit(self, rows):
        if not rows.isfinite().all():
            raise InputError("features", "must be finite", "train with a smaller learning rate")
        if len(rows) <= self.settings["k"]:
            raise InputError(f"{len(rows)} rows", f"must be more than k={self.settings['k']}", "give more images")
        return self.remember(bank=rows.detach().clone())

    def forward(self, rows):
        # By default the number of rows decides how it is computed, which a program for any number can't.
        distances = torch.cdist(rows, self.bank, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.topk(self.settings["k"], largest=False).values[..., -1].log()


@pytest.mark.parametrize("name", SCORERS)
class TestRegistered(ScorerContract):
    @pytest.fixture(autouse=True)
    def named(self, name):
        self.name = name

    def make(self):
        return scorers.make(self.name)


class TestOneFromOutside(ScorerContract):
    too_few = 4

    def make(self):
        return NearestNeighbours(k=4)


def test_the_specification_of_a_scorer_from_outside_has_its_settings():
    spec = ScorerSpec("nearest_neighbours", {"k": 5})
    assert spec.describe() == "nearest_neighbours (k 5)"
    assert ScorerSpec.from_json(spec.to_json()) == spec
    assert hash(ScorerSpec.from_json(spec.to_json())) == hash(spec)
    assert spec != ScorerSpec("nearest_neighbours", {"k": 6})


def test_defaults_written_out_are_the_same_specification():
    assert ScorerSpec.of("gaussian") == ScorerSpec.of(SCORERS["gaussian"]) == ScorerSpec("gaussian", {})


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match="did you mean gaussian"):
        scorers.get("gausian")


def test_settings_that_a_scorer_does_not_take_are_refused():
    with pytest.raises(InputError, match="takes no settings, and k was given"):
        scorers.make("gaussian", k=3)
