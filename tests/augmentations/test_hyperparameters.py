import json
import math
from pathlib import Path
from typing import Annotated

import pytest
import torch

import augmentations
from augmentations import InputError
from augmentations.hyperparameters import (
    Area,
    Aspect,
    Bounds,
    Number,
    Range,
    Step,
    floats,
    from_json,
    normalise,
    numbers_and_choices,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, (0.1, 0.1)),
        ([0.1, 0.2], (0.1, 0.2)),
        ((0.1, 0.2), (0.1, 0.2)),
        (1, (1.0, 1.0)),
        (torch.tensor(0.5), (0.5, 0.5)),
        ((0.25, torch.tensor(0.5)), (0.25, 0.5)),
    ],
)
def test_accepts(value, expected):
    result = normalise("area", value, Area, (0.02, 0.15))
    assert isinstance(result, tuple)
    assert floats(result) == expected


@pytest.mark.parametrize(
    ("name", "hyperparameters", "message"),
    [
        ("cutout", {"aspect": 0}, "aspect=0: must be > 0; try (0.3, 3.3)"),
        (
            "cutout",
            {"area": (0, 0.1)},
            "area=(0, 0.1): must be in (0, 1], a share of the image; try (0.02, 0.15)",
        ),
        (
            "cutout",
            {"area": (0.3, 0.1)},
            "area=(0.3, 0.1): low must not exceed high; swap the ends: (0.1, 0.3)",
        ),
        ("cutout", {"area": math.nan}, "area=nan: must be finite; try (0.02, 0.15)"),
        (
            "cutdiff",
            {"aspect": math.inf},
            "aspect=inf: must be finite; try (0.3, 3.3)",
        ),
        ("cutpaste", {"jitter": 0.6}, "jitter=0.6: must be in [0, 0.5]; try (0, 0.1)"),
        ("cutpaste", {"angle": "45"}, "angle='45': must be a number or (low, high); try (0, 0)"),
        ("cutpaste", {"angle": (1, 2, 3)}, "angle=(1, 2, 3): must be a number or (low, high); try (0, 0)"),
        ("cutpaste", {"angle": None}, "angle=None: must be a number or (low, high); try (0, 0)"),
        (
            "cutpaste_scar",
            {"angle": (-200, 0)},
            "angle=(-200, 0): must be in [-180, 180] degrees; try (-45, 45)",
        ),
        (
            "cutpaste_union",
            {"scar_area": 2},
            "scar_area=2: must be in (0, 1], a share of the image; try (0.002, 0.014)",
        ),
        ("rotation", {"step": -90}, "step=-90: must be 0 (continuous) or in [1, 360] degrees; try 90"),
    ],
)
def test_refusals_name_thing_rule_and_remedy(name, hyperparameters, message):
    with pytest.raises(InputError) as refusal:
        augmentations.make(name, **hyperparameters)
    assert str(refusal.value) == message


def test_tensor_ends_become_floats():
    end = torch.tensor(2.0, requires_grad=True)
    augmentation = augmentations.make("cutdiff", aspect=(1.0, end))
    assert augmentation.aspect[1] is end
    assert augmentation.hyperparameters()["aspect"] == (1.0, 2.0)
    with pytest.raises(InputError, match="must be > 0"):
        normalise("aspect", (torch.tensor(-1.0), 1.0), Aspect, (0.3, 3.3))


def test_the_forms_in_memory_and_in_json():
    values = {"area": (0.1, 0.2), "step": 90.0, "kernel": 3, "blend": "mean", "is_soft": True}
    assert from_json(json.loads(json.dumps(values))) == values
    parts = {"area_low": 0.1, "area_high": 0.2, "step": 90.0, "kernel": 3, "blend": "mean", "is_soft": True}
    assert numbers_and_choices(values) == parts


def test_gradients_reach_a_number():
    step = torch.tensor(30.0, requires_grad=True)
    assert normalise("step", step, Step, 90.0) is step
    rotation = augmentations.make("rotation", step=step)
    assert rotation.hyperparameters()["step"] == 30.0
    assert type(rotation.hyperparameters()["step"]) is float


def test_a_text_obeys_its_bounds(tmp_path):
    folder = Annotated[str, Bounds("must be a folder", lambda path: Path(path).is_dir())]
    assert normalise("textures", str(tmp_path), folder, ".") == str(tmp_path)
    for bad, message in (("no/such", "'no/such': must be a folder; try '.'"), (3, "3: must be a string; try '.'")):
        with pytest.raises(InputError) as refusal:
            normalise("textures", bad, folder, ".")
        assert str(refusal.value) == f"textures={message}"


@pytest.mark.parametrize("declared", [float, int, Number, Range, bool])
def test_what_has_no_bounds_must_be_finite(declared):
    default = {Range: (0.0, 1.0), bool: True}.get(declared, 1)
    assert normalise("x", default, declared, default) == default
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError):
            normalise("x", bad, declared, default)


@pytest.mark.parametrize("declared", [str, list[int], object])
def test_an_annotation_that_says_too_little_is_refused(declared):
    with pytest.raises(InputError, match="declares no hyperparameter"):
        normalise("x", "a", declared, "a")
