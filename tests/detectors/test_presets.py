import dataclasses
import json

import pytest
from torch import nn

from augmentations import InputError
from detectors import PRESETS, Classifier, ClassifierSettings, PatchClassifier, PatchSettings, get_preset
from detectors.classifier import _head

NAMES = ["quick", "standard", "paper"]  # from the fastest to the longest training


def test_paper_is_the_published_training():
    assert Classifier.settings_for(get_preset("paper")) == ClassifierSettings(
        encoder="resnet18",
        image_size=256,
        head=(512, 128),
        steps=10_000,
        batch=32,
        learning_rate=0.03,
        momentum=0.9,
        weight_decay=3e-5,
        jitter=0.1,
    )


def test_head_of_the_paper():
    layers = list(_head((512, *get_preset("paper").head), 2))
    assert [type(layer) for layer in layers] == [
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
        nn.Linear,
    ]
    shapes = [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]
    assert shapes == [(512, 512), (512, 128), (128, 2)]


def test_presets():
    assert set(PRESETS) >= set(NAMES)
    assert get_preset("quick").encoder == "small"
    sizes = [get_preset(name).image_size for name in NAMES]
    steps = [get_preset(name).steps for name in NAMES]
    assert sizes == sorted(sizes)
    assert steps == sorted(steps)
    with pytest.raises(InputError, match="did you mean quick"):
        get_preset("quik")


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_through_json(name):
    settings = Classifier.settings_for(get_preset(name))
    again = ClassifierSettings(**json.loads(json.dumps(dataclasses.asdict(settings))))
    assert again == settings
    assert hash(again) == hash(settings)


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "resnet81"},
        {"image_size": 0},
        {"head": (64, 0)},
        {"steps": 0},
        {"batch": 1},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"weight_decay": -1e-5},
        {"weight_decay": float("nan")},
        {"jitter": 0.6},
        {"jitter": -0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Classifier, PatchClassifier])
def test_refuses_what_cannot_be_trained(kind, change):
    with pytest.raises(InputError, match=next(iter(change))):
        dataclasses.replace(kind.settings_for(get_preset("quick")), **change)


@pytest.mark.parametrize(
    "change",
    [
        {"patch": 0},
        {"patch": -1},
        {"patch": 7, "encoder": "small"},
        {"patch": 65},
        {"patch": 14},
        {"stride": 0},
        {"stride": 17},
    ],
    ids=str,
)
def test_refuses_patches_that_cannot_be_cut(change):
    with pytest.raises(InputError, match=next(iter(change))):
        dataclasses.replace(PatchClassifier.settings_for(get_preset("quick")), **change)


# Li et al. (CVPR 2021, A.5): 32 px and 4 px at 256 px; 16 px is the least.
@pytest.mark.parametrize(("size", "patch"), [(16, 16), (32, 16), (64, 16), (128, 16), (200, 25), (256, 32), (512, 64)])
@pytest.mark.parametrize("name", NAMES)
def test_patch_settings(name, size, patch):
    chosen = dataclasses.replace(get_preset(name), image_size=size)
    settings = PatchClassifier.settings_for(chosen)
    expected = {"encoder": "unpadded", "image_size": size, "batch": 64, "steps": 4 * chosen.steps}
    assert settings == PatchSettings(**{**dataclasses.asdict(chosen), **expected, "patch": patch, "stride": 4})
    assert PatchSettings(**json.loads(json.dumps(dataclasses.asdict(settings)))) == settings


def test_patch_settings_refuse_images_smaller_than_a_patch():
    with pytest.raises(InputError, match=r"image_size=15.*16 px of a patch.*try 64"):
        PatchClassifier.settings_for(dataclasses.replace(get_preset("quick"), image_size=15))


def test_no_hidden_layer_is_a_head_too():
    assert len(_head((64,), 2)) == 1
    assert dataclasses.replace(Classifier.settings_for(get_preset("quick")), head=()).head == ()
