import pytest

import augmentations
from augmentations import InputError


def test_names_in_order():
    assert augmentations.names() == [
        "cutout",
        "cutavg",
        "cutdiff",
        "cutpaste",
        "cutpaste_scar",
        "cutpaste_union",
        "cutpaste_3way",
        "rotation",
    ]


def test_registered_under_their_own_names():
    assert all(kind.name == name for name, kind in augmentations.AUGMENTATIONS.items())


def test_make_replaces_defaults():
    made = augmentations.make("cutpaste", area=[0.05, 0.1], angle=30)
    assert made.hyperparameters() == {
        "area": (0.05, 0.1),
        "aspect": (0.3, 3.3),
        "angle": (30.0, 30.0),
        "jitter": (0.0, 0.1),
    }


@pytest.mark.parametrize("call", [augmentations.make, augmentations.grid])
def test_unknown_name(call):
    with pytest.raises(InputError, match=r"'cutpast'.*did you mean cutpaste"):
        call("cutpast")


def test_unknown_name_of_suggest():
    with pytest.raises(InputError, match="did you mean cutout"):
        augmentations.suggest("cutoutt", None)


def test_unknown_hyperparameter():
    with pytest.raises(InputError, match=r"hyperparameter of cutout 'aera'.*did you mean area"):
        augmentations.make("cutout", aera=(0.1, 0.2))
