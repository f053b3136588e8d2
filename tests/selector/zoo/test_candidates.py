"""Candidates: ids that last, plans that refuse before training, and the way to JSON and back."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

import augmentations
from augmentations import InputError
from detectors import Settings, patch_settings
from selector.zoo.candidates import Candidate, Training, interval, plan

SETTINGS = Settings("small", 64, head=(64,), steps=200, batch=16)
GRID = {"cutout": [{"area": (0.02, 0.1)}], "cutpaste_3way": [{}]}


def planned(grids=None, detectors=("classifier",), scorers=("gaussian",), settings=SETTINGS, seed=0):
    return plan(GRID if grids is None else grids, detectors, scorers, settings, seed)


@pytest.fixture
def two_scorers(monkeypatch):
    from detectors import scorers

    monkeypatch.setitem(scorers.SCORERS, "other", scorers.SCORERS["gaussian"])
    return ("gaussian", "other")


class TestId:
    FIXED = Candidate(
        Training("cutout", (("area", (0.02, 0.1)), ("aspect", (0.3, 3.3))), "classifier", SETTINGS, 0), "gaussian"
    )

    def test_it_is_what_it_was(self):
        """Of a run folder that was written before; changing it makes finished candidates unfinished."""
        assert self.FIXED.id == "6754afb49286"
        assert self.FIXED.training_id == "f019e57455b4"

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
            {"hyperparameters": (("area", (0.02, 0.2)),)},
            {"detector": "other"},
            {"seed": 1},
            {"settings": replace(SETTINGS, steps=201)},
            {"settings": replace(SETTINGS, image_size=32)},
            {"settings": replace(SETTINGS, head=(64, 64))},
            {"settings": replace(SETTINGS, jitter=0.1)},
        ],
    )
    def test_it_changes_with_whatever_decides_the_weights(self, change):
        other = Candidate(replace(self.FIXED.training, **change), "gaussian")
        assert other.training_id != self.FIXED.training_id
        assert other.id != self.FIXED.id

    def test_the_scorer_is_no_part_of_the_training(self):
        other = Candidate(self.FIXED.training, "other")
        assert other.training_id == self.FIXED.training_id
        assert other.id != self.FIXED.id

    def test_equal_numbers_are_one_candidate(self):
        grids = {"cutpaste": [{"angle": (-45, 45)}, {"angle": (-45.0, 45.0)}, {"angle": [-45, 45]}]}
        assert len(planned(grids)) == 1
        assert planned({"rotation": [{"angle": 90}]}) == planned({"rotation": [{"angle": (90.0, 90.0)}]})

    def test_defaults_written_out_are_one_candidate(self):
        assert planned({"cutpaste": [{}]}) == planned({"cutpaste": [augmentations.make("cutpaste").hyperparameters()]})

    def test_it_is_a_file_name(self):
        assert all(candidate.id.isalnum() and len(candidate.id) == 12 for candidate in planned())


class TestRoundTrip:
    @pytest.mark.parametrize("name", augmentations.names())
    def test_json_and_back(self, name):
        for candidate in planned([name], settings=replace(SETTINGS, head=(64, 32), jitter=0.1)):
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
            planned()[0].scorer = "other"


class TestPlan:
    def test_names_mean_their_default_grids(self):
        expected = sum(len(augmentations.grid(name)) for name in ("cutout", "cutpaste"))
        assert len(planned(["cutout", "cutpaste"])) == expected
        assert planned("cutout") == planned(["cutout"])

    def test_it_is_the_product_in_order_each_once(self, two_scorers):
        twice = {"cutout": [{"area": (0.02, 0.1)}, {}, {"area": (0.02, 0.1)}]}
        found = planned(twice, scorers=(*two_scorers, "gaussian"))
        assert [(c.hyperparameters["area"], c.scorer) for c in found] == [
            (area, scorer) for area in ((0.02, 0.1), (0.02, 0.15)) for scorer in two_scorers
        ]

    def test_each_detector_has_its_own_settings(self):
        whole, patches = planned({"cutout": [{}]}, detectors=("classifier", "patch"))
        settings = whole.training.settings
        assert patches.training.settings == patch_settings(settings, settings.image_size)

    def test_a_set_of_names_has_one_order(self):
        assert planned({"cutpaste", "cutout"}) == planned(["cutout", "cutpaste"])

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"grids": ["cutot"]}, "did you mean.*cutout"),
            ({"grids": {"cutot": [{}]}}, "did you mean.*cutout"),
            ({"grids": []}, "augmentations"),
            ({"grids": {}}, "augmentations"),
            ({"grids": {"cutout": []}}, "'cutout': is empty"),
            ({"grids": {"cutout": {"area": (0.1, 0.2)}}}, "'cutout': must be a list of dicts"),
            ({"grids": {"cutout": "area"}}, "'cutout': must be a list of dicts"),
            ({"grids": {"cutout": [("area", (0.1, 0.2))]}}, "'cutout': must be a list of dicts"),
            ({"grids": {"cutout": 3}}, "'cutout': must be a list of dicts"),
            ({"grids": {"cutout": [{"size": 3}]}}, "hyperparameter of cutout 'size'"),
            ({"grids": {"cutout": [{"area": (0.5, 0.1)}]}}, "low must not exceed high"),
            ({"grids": {"cutout": [{"area": 0}]}}, r"area=0: must be in \(0, 1\]"),
            ({"detectors": ()}, "detectors"),
            ({"detectors": "classifier"}, "detectors='classifier'"),
            ({"detectors": ("nope",)}, "detector 'nope'"),
            ({"scorers": ()}, "scorers"),
            ({"scorers": "gaussian"}, "scorers='gaussian'"),
            ({"scorers": ("gausian",)}, "did you mean gaussian"),
        ],
    )
    def test_what_cannot_be_planned_is_refused(self, changes, said):
        with pytest.raises(InputError, match=said):
            planned(**changes)

    def test_cells_that_no_image_of_the_size_can_hold_are_refused(self):
        grids = {"cutpaste": [{"area": (0.9, 1.0), "aspect": (8, 10)}]}
        with pytest.raises(InputError):
            planned(grids)


def test_description_in_a_few_words():
    found = planned({"cutout": [{"area": (0.02, 0.1), "aspect": 1}]})[0].describe()
    assert found.startswith("cutout (area 0.02 to 0.1, aspect 1")
    assert interval((0.25, 0.25)) == "0.25"
    assert interval((1 / 3, 3)) == "0.333 to 3"
