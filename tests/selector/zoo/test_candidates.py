"""Candidates: ids that last, what they are called, and the way to JSON and back."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

import augmentations
import detectors
from detectors import ClassifierSettings, PatchSettings, Preset, ScorerSpec
from selector.zoo.candidates import NO_AUGMENTATION, Candidate, Training, describe, ensemble_id, interval
from selector.zoo.plan import Plan

PRESET = Preset("small", 64, head=(64,), steps=200, batch=16)
SETTINGS = ClassifierSettings("small", 64, head=(64,), steps=200, batch=16)
GRID = {"cutout": [{"area": (0.02, 0.1)}], "cutpaste_3way": [{}]}
GAUSSIAN = ScorerSpec("gaussian")


def planned(grids=None, preset=PRESET, seed=0):
    return Plan.of(GRID if grids is None else grids, ("classifier",), ("gaussian",), preset).candidates(seed)


class TestId:
    FIXED = Candidate(
        Training("classifier", SETTINGS, "cutout", (("area", (0.02, 0.1)), ("aspect", (0.3, 3.3))), 0), GAUSSIAN
    )

    def test_it_is_what_it_was(self):
        """Of a run folder that was written before; changing it makes finished candidates unfinished."""
        assert self.FIXED.id == "79369a8a8514"
        assert self.FIXED.training_id == "04289612c093"

    @pytest.mark.slow
    def test_it_is_the_same_in_every_process(self):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from tests.selector.zoo.test_candidates import planned; print(*[c.id for c in planned()])",
            ],
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [candidate.id for candidate in planned()]

    @pytest.mark.parametrize(
        "change",
        [
            {"augmentation": "cutpaste"},
            {"augmentation": None, "hyperparameters": ()},
            {"hyperparameters": (("area", (0.02, 0.2)),)},
            {"detector": "other"},
            {"seed": 1},
            {"settings": replace(SETTINGS, steps=201)},
            {"settings": replace(SETTINGS, image_size=32)},
            {"settings": replace(SETTINGS, head=(64, 64))},
            {"settings": replace(SETTINGS, jitter=0.1)},
            {"settings": PatchSettings("unpadded", 64, head=(64,), steps=200, batch=16)},
        ],
    )
    def test_it_changes_with_whatever_decides_the_weights(self, change):
        other = Candidate(replace(self.FIXED.training, **change), GAUSSIAN)
        assert other.training_id != self.FIXED.training_id
        assert other.id != self.FIXED.id

    @pytest.mark.parametrize("scorer", [ScorerSpec("other"), ScorerSpec("gaussian", {"k": 3})])
    def test_the_scorer_and_its_settings_are_no_part_of_the_training(self, scorer):
        other = Candidate(self.FIXED.training, scorer)
        assert other.training_id == self.FIXED.training_id
        assert other.id != self.FIXED.id

    def test_candidates_that_differ_in_their_seed_alone_have_one_configuration(self):
        other = Candidate(replace(self.FIXED.training, seed=3), GAUSSIAN)
        assert other.configuration_id == self.FIXED.configuration_id
        assert Candidate(other.training, ScorerSpec("other")).configuration_id != other.configuration_id

    def test_equal_numbers_are_one_candidate(self):
        grids = {"cutpaste": [{"angle": (-45, 45)}, {"angle": (-45.0, 45.0)}, {"angle": [-45, 45]}]}
        assert len(planned(grids)) == 1
        assert planned({"rotation": [{"angle": 90}]}) == planned({"rotation": [{"angle": (90.0, 90.0)}]})

    def test_defaults_written_out_are_one_candidate(self):
        assert planned({"cutpaste": [{}]}) == planned({"cutpaste": [augmentations.make("cutpaste").hyperparameters()]})

    def test_it_is_a_file_name(self):
        assert all(candidate.id.isalnum() and len(candidate.id) == 12 for candidate in planned())

    def test_an_ensemble_has_one_whatever_the_order_of_its_members(self):
        assert ensemble_id(["a", "b"]) == ensemble_id(["b", "a"])
        assert ensemble_id(["a", "b"]) not in {"a", "b", ensemble_id(["a", "c"])}
        assert ensemble_id(["a"]) == "a"


class TestRoundTrip:
    @pytest.mark.parametrize("name", augmentations.names("images"))
    def test_json_and_back(self, name):
        for candidate in planned([name], preset=replace(PRESET, head=(64, 32), jitter=0.1)):
            text = json.dumps(candidate.to_json(), allow_nan=False)
            again = Candidate.from_json(json.loads(text))
            assert again == candidate
            assert again.id == candidate.id
            assert again.training.make_augmentation() == candidate.training.make_augmentation()

    def test_from_json_leaves_the_values_alone(self):
        values = planned()[0].to_json()
        before = json.dumps(values)
        Candidate.from_json(values)
        assert json.dumps(values) == before

    def test_it_travels_to_a_worker(self):
        candidate = planned()[0]
        assert pickle.loads(pickle.dumps(candidate)) == candidate

    def test_it_is_frozen(self):
        with pytest.raises(FrozenInstanceError):
            planned()[0].scorer = GAUSSIAN


class TestWithoutAugmentation:
    """A training of a kind that learns from normal images alone."""

    ALONE = Candidate(Training("classifier", SETTINGS, None, (), 0), GAUSSIAN)

    def test_it_has_no_augmentation_and_no_family(self):
        assert self.ALONE.training.make_augmentation() is None
        assert self.ALONE.training.family is None
        assert self.ALONE.augmentation == NO_AUGMENTATION
        assert self.ALONE.hyperparameters == {}

    def test_it_is_described_by_its_kind(self):
        assert describe("classifier", NO_AUGMENTATION, {}) == "classifier"
        assert describe("mine:Average", NO_AUGMENTATION, {}) == "Average"

    def test_json_and_back(self):
        assert Candidate.from_json(json.loads(json.dumps(self.ALONE.to_json()))) == self.ALONE


def test_description_in_a_few_words():
    assert describe("classifier", "cutout", {"area": (0.02, 0.1), "aspect": 1}) == "cutout (area 0.02 to 0.1, aspect 1)"
    assert describe("classifier", "mine:Fog", {"blend": "mean"}) == "Fog (blend mean)"
    assert describe("classifier", "flip", {}) == "flip"
    assert interval((0.25, 0.25)) == "0.25"
    assert interval((1 / 3, 3)) == "0.333 to 3"
    assert interval(90.0) == "90"
    assert interval(True) == "True"


def test_the_family_is_that_of_the_augmentation():
    family = {name: Training("classifier", SETTINGS, name, (), 0).family for name in ("cutpaste_scar", "cutpaste")}
    assert set(family.values()) == {"cutpaste"}


@pytest.mark.parametrize(
    ("detector", "settings", "expected"),
    [
        ("rotation", {}, "rotation"),
        ("contrastive_da", {}, "rotation"),
        ("contrastive_da", {"instances": "hflip", "hflip": False}, "flip"),
        ("contrastive_da", {"instances": "vflip"}, "flip"),
        ("contrastive_da", {"instances": "first_3", "hflip": False}, "rotation"),
        ("contrastive_da", {"instances": "cutpaste_scar"}, "cutpaste"),
        ("contrastive", {}, None),
        ("pixels", {}, None),
    ],
)
def test_a_kind_without_an_augmentation_says_which_family_it_was_trained_against(detector, settings, expected):
    chosen = replace(detectors.get(detector).settings_for(detectors.get_preset("quick")), **settings)
    training = Training(detector, chosen, None, (), 0)
    assert training.family == expected
    assert Training.from_json(json.loads(json.dumps(training.to_json()))).family == expected
