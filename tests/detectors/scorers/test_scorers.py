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


DIRECTION_ALONE = ("kde", "ocsvm", "ocsvm_linear", "knn")  # by default


@pytest.mark.parametrize("name", SCORERS)
class TestRegistered(ScorerContract):
    @pytest.fixture(autouse=True)
    def named(self, name):
        self.name = name
        self.far = (-30.0,) if name in DIRECTION_ALONE else (30.0, -30.0)

    def make(self):
        return scorers.make(self.name)


class TestEuclideanMemory(ScorerContract):
    too_few = 2

    def make(self):
        return scorers.make("knn", k=2, average=False, distance="euclidean", memory=0.5)


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


def test_a_specification_shows_what_differs_from_the_defaults():
    assert ScorerSpec.of("knn").describe() == "knn"
    assert ScorerSpec.of("knn", {"k": 5, "memory": 0.1}).describe() == "knn (k 5, memory 0.1)"
    assert ScorerSpec.of("knn", {"k": 3}) == ScorerSpec.of("knn")


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("kde", {"gamma_factor": 0}, "gamma_factor=0: must be a number above 0; try 10"),
        ("kde", {"gamma_factor": float("nan")}, "gamma_factor=nan: must be a number above 0; try 10"),
        ("kde", {"limit": 1}, "limit=1: must be a whole number of at least 2; try 4000"),
        ("ocsvm", {"nu": 0}, "nu=0: must be a share in (0, 1]; try 0.5"),
        ("ocsvm", {"nu": True}, "nu=True: must be a share in (0, 1]; try 0.5"),
        ("ocsvm", {"gamma_factor": "scale"}, "gamma_factor='scale': must be a number above 0; try 10"),
        ("ocsvm_linear", {"nu": 1.5}, "nu=1.5: must be a share in (0, 1]; try 0.5"),
        ("ocsvm_linear", {"gamma_factor": 10}, "unexpected keyword argument 'gamma_factor'"),
        ("knn", {"k": 0}, "k=0: must be a whole number of at least 1; try 3"),
        ("knn", {"k": 1.5}, "k=1.5: must be a whole number of at least 1; try 3"),
        ("knn", {"average": 1}, "average=1: must be True or False; try True"),
        ("knn", {"distance": "l1"}, "distance='l1': must be cosine or euclidean; try 'cosine'"),
        ("knn", {"memory": 0}, "memory=0: must be a share in (0, 1] or a number of rows; try 0.1 or 4000"),
        ("knn", {"memory": 2.5}, "memory=2.5: must be a share in (0, 1] or a number of rows; try 0.1 or 4000"),
        ("knn", {"k": 5, "memory": 4}, "memory=4: must be at least k=5; try 4000"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, settings, said):
    with pytest.raises(InputError) as refusal:
        ScorerSpec.of(name, settings)
    assert said in str(refusal.value)
