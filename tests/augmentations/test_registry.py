import doctest
from dataclasses import dataclass
from typing import ClassVar

import pytest

import augmentations
from augmentations import InputError, registry
from augmentations.cutdiff import CutDiff
from augmentations.cutout import CutOut


@dataclass(frozen=True)
class Grey(CutOut):
    """An augmentation of this file, not registered."""

    name: ClassVar[str] = "grey"


@dataclass(frozen=True)
class Nameless(augmentations.Augmentation):
    """Declares nothing."""

    def _draw(self, n, size, generator):
        return {}

    def _transform(self, images, parameters):
        return images

    @classmethod
    def grid(cls):
        return []

    @classmethod
    def suggest(cls, trial):
        return {}


class Plain(CutOut):
    """Not a dataclass: its field would be ignored."""

    name = "plain"
    shade: float = 0.5


def test_make_replaces_defaults():
    cutpaste = augmentations.make("cutpaste", area=[0.05, 0.1], angle=30)
    assert cutpaste.hyperparameters() == {
        "area": (0.05, 0.1),
        "aspect": (0.3, 3.3),
        "angle": (30.0, 30.0),
        "jitter": (0.0, 0.1),
    }


def test_the_example_of_make_is_right():
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(registry.make, "make", globs={}):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_name_reference_and_class_are_one_augmentation():
    for same in ("cutdiff", "augmentations.cutdiff:CutDiff", CutDiff):
        assert augmentations.get(same) is CutDiff
        assert augmentations.reference(same) == "cutdiff"
        assert augmentations.make(same, area=0.1) == CutDiff(area=0.1)
        assert augmentations.grid(same) == CutDiff.grid()


def test_a_class_of_another_module_has_a_reference():
    reference = augmentations.reference(Grey)
    assert reference == f"{__name__}:Grey"
    assert augmentations.get(reference) is Grey
    assert augmentations.make(Grey).family == "cutout"


@pytest.mark.parametrize("call", [augmentations.make, augmentations.grid, augmentations.get, augmentations.reference])
def test_unknown_name(call):
    with pytest.raises(InputError, match=r"'cutpast'.*did you mean cutpaste"):
        call("cutpast")


def test_unknown_name_of_suggest():
    with pytest.raises(InputError, match="did you mean cutout"):
        augmentations.suggest("cutoutt", None)


def test_unknown_hyperparameter():
    with pytest.raises(InputError, match=r"hyperparameter of cutout 'aera'.*did you mean area"):
        augmentations.make("cutout", aera=(0.1, 0.2))


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Nameless, 'augmentation Nameless: must declare name; add `name: ClassVar[str] = "mine"` to it'),
        (Plain, "augmentation Plain: must be a frozen dataclass; write @dataclass(frozen=True) above it"),
        (augmentations.Augmentation, "augmentation Augmentation: has no _draw, _transform, grid, suggest"),
        (dict, "augmentation <class 'dict'>: must be a subclass of Augmentation"),
        (CutOut(), "must be a subclass of Augmentation"),
    ],
)
def test_a_class_that_lacks_something_is_refused(cls, message):
    with pytest.raises(InputError) as refusal:
        augmentations.make(cls)
    assert message in str(refusal.value)


@dataclass(frozen=True)
class Listed(CutOut):
    """Its field declares no hyperparameter."""

    name: ClassVar[str] = "listed"
    sizes: list[int] = ()


@dataclass(frozen=True)
class WithoutDefault(Nameless):
    """Its field has no default."""

    name: ClassVar[str] = "bare"
    family: ClassVar[str] = "bare"
    is_local: ClassVar[bool] = True
    size: float


def test_a_field_must_have_a_known_annotation():
    with pytest.raises(InputError, match="declares no hyperparameter; annotate it as"):
        augmentations.make(Listed)


def test_a_field_must_have_a_default():
    with pytest.raises(InputError, match="size of augmentation WithoutDefault: must have a default"):
        augmentations.make(WithoutDefault, size=1)


def test_a_local_class_is_refused_before_any_work():
    @dataclass(frozen=True)
    class Local(CutOut):
        name: ClassVar[str] = "local"

    with pytest.raises(InputError, match=r"is defined inside a function.*put it into a module"):
        augmentations.make(Local)
