"""The contract that ships, for every registered augmentation and for one from outside the package."""

import json
import subprocess
import sys

import pytest

import augmentations
from augmentations import InputError
from augmentations.randomness import generator
from selector.testing.augmentation import AugmentationContract, images

STAMP = '''
from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar

import torch

from augmentations import Augmentation
from augmentations.base import cell
from augmentations.hyperparameters import Bounds, Choice, Number
from augmentations.randomness import noise


@dataclass(frozen=True)
class Stamp(Augmentation):
    """Stamps a square of one colour."""

    name: ClassVar[str] = "stamp"
    family: ClassVar[str] = "stamps"
    is_local: ClassVar[bool] = True
    side: Annotated[int, Bounds("must be in [1, 16] px", lambda x: 1 <= x <= 16)] = 8
    fill: Annotated[str, Choice("white", "mean", "inverse")] = "inverse"
    opacity: Annotated[Number, Bounds("must be in (0, 1]", lambda x: 0 < x <= 1)] = 0.75
    is_round: bool = False

    @classmethod
    def grid(cls):
        return [cell(cls, side=side, fill=fill) for side, fill in product((4, 8), ("white", "mean", "inverse"))]

    @classmethod
    def suggest(cls, trial):
        return cell(
            cls,
            side=trial.suggest_int("stamp.side", 1, 16),
            fill=trial.suggest_categorical("stamp.fill", ("white", "mean", "inverse")),
            opacity=trial.suggest_float("stamp.opacity", 0.1, 1.0),
            is_round=trial.suggest_categorical("stamp.is_round", (False, True)),
        )

    def _draw(self, n, size, generator):
        low = self.side / 2
        return {axis: low + (length - 2 * low) * noise(n, generator) for axis, length in zip("yx", size)}

    def _transform(self, images, parameters):
        rows, columns = (torch.arange(side, device=images.device) + 0.5 for side in images.shape[-2:])
        y, x = ((a - parameters[k][:, None]).abs() for a, k in ((rows, "y"), (columns, "x")))
        y, x = y[:, None, :, None], x[:, None, None, :]
        distance = (y.square() + x.square()).sqrt() if self.is_round else torch.maximum(y, x)
        inside = distance <= self.side / 2
        mean = images.mean((2, 3), keepdim=True)
        colour = {"white": torch.ones_like(images), "mean": mean, "inverse": 1 - images}[self.fill]
        return torch.where(inside, images + self.opacity * (colour - images), images)
'''


class TestRegistered(AugmentationContract):
    @pytest.fixture(params=augmentations.names())
    def augmentation_class(self, request):
        self.distinct_suggestions = 4 if request.param == "flip" else 30
        return augmentations.get(request.param)

    def test_it_is_known_by_its_name(self, augmentation_class):
        assert augmentations.reference(augmentation_class) == augmentation_class.name


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A folder on the path with a module that holds an augmentation."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "stamps_from_outside.py").write_text(STAMP)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("stamps_from_outside", None)


@pytest.mark.usefixtures("outside")
class TestFromOutside(AugmentationContract):
    under_test = "stamps_from_outside:Stamp"
    distinct_suggestions = 30

    def test_its_reference_names_its_module(self, augmentation_class):
        assert augmentations.reference(augmentation_class) == self.under_test
        assert augmentations.reference(self.under_test) == self.under_test

    def test_numbers_whole_numbers_and_choices_are_given_by_reference(self):
        stamp = augmentations.make(self.under_test, side=5.0, fill="mean", opacity=1, is_round=True)
        expected = {"side": 5, "fill": "mean", "opacity": 1.0, "is_round": True}
        assert stamp.hyperparameters() == expected
        assert [type(value) for value in stamp.hyperparameters().values()] == [int, str, float, bool]

    @pytest.mark.parametrize(
        ("hyperparameters", "message"),
        [
            ({"side": 2.5}, "side=2.5: must be a whole number; try 8"),
            ({"side": True}, "side=True: must be a whole number; try 8"),
            ({"side": (2, 4)}, "side=(2, 4): must be a whole number; try 8"),
            ({"side": 17}, "side=17: must be in [1, 16] px; try 8"),
            ({"side": float("inf")}, "side=inf: must be a whole number; try 8"),
            ({"fill": "pink"}, "fill='pink': must be 'white' or 'mean' or 'inverse'; try 'inverse'"),
            ({"opacity": (0.1, 0.2)}, "opacity=(0.1, 0.2): must be one number; try 0.75"),
            ({"opacity": 0}, "opacity=0: must be in (0, 1]; try 0.75"),
            ({"is_round": 1}, "is_round=1: must be True or False; try False"),
        ],
    )
    def test_refusals_name_thing_rule_and_remedy(self, hyperparameters, message):
        with pytest.raises(InputError) as refusal:
            augmentations.make(self.under_test, **hyperparameters)
        assert str(refusal.value) == message

    def test_another_process_makes_the_same(self, outside, augmentation):
        hyperparameters = json.dumps(augmentation.hyperparameters())
        script = (
            "import augmentations, json\n"
            "from augmentations.randomness import generator\n"
            "from selector.testing.augmentation import images\n"
            f"stamp = augmentations.make({self.under_test!r}, **json.loads({hyperparameters!r}))\n"
            "print(stamp(images(), generator(7)).double().sum().item())\n"
        )
        path = {"PYTHONPATH": ":".join([str(outside), *filter(None, sys.path)])}
        said = subprocess.run(
            [sys.executable, "-c", script], env=path, capture_output=True, text=True, check=True
        ).stdout
        assert float(said) == augmentation(images(), generator(7)).double().sum().item()
