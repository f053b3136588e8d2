"""Plans: every combination of what was named, once, and a refusal before any training."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import augmentations
import detectors
from augmentations import InputError
from detectors import Kind, Preset, ScorerSpec, get_preset
from detectors.scorers import Gaussian
from selector.zoo.plan import Plan, Request

PRESET = Preset("small", 64, head=(64,), steps=200, batch=16)
GRID = {"cutout": [{"area": (0.02, 0.1)}]}


@dataclass(frozen=True)
class AverageSettings:
    image_size: int


class Average(Kind):
    """Learns from normal images alone."""

    name = "average"
    Settings = AverageSettings
    uses_augmentation = False

    def build_encoder(self, channels):
        return torch.nn.AvgPool2d(8)


@dataclass(frozen=True)
class FiledSettings:
    image_size: int
    folder: Path = Path()


class Filed(Average):
    """Has a setting that JSON can't hold."""

    Settings = FiledSettings


class Demanding(Average):
    """Needs larger images than the preset has."""

    name = "demanding"

    @classmethod
    def needs(cls, settings):
        return 100


class Nameless(Kind):
    """Declares no name."""

    Settings = AverageSettings
    uses_augmentation = False
    build_encoder = Average.build_encoder


class Sizeless(Average):
    """Its settings do not say how large images are."""

    Settings = type("Settings", (), {})


class Other(Gaussian):
    """A second scorer."""

    name = "other"


class Weighted(Gaussian):
    """A scorer with a setting."""

    name = "weighted"

    def __init__(self, weight=1.0):
        super().__init__(weight=weight)


class Forgetful(Gaussian):
    """A scorer that does not pass its setting on."""

    name = "forgetful"

    def __init__(self, weight=1.0):
        super().__init__()


def planned(grids=None, kinds=("classifier",), scorers=("gaussian",), preset=PRESET, encoder="auto", seed=0):
    return Plan.of(GRID if grids is None else grids, kinds, scorers, preset, encoder).candidates(seed)


def test_names_mean_their_default_grids():
    expected = sum(len(augmentations.grid(name)) for name in ("cutout", "cutpaste"))
    assert len(planned(["cutout", "cutpaste"])) == expected
    assert planned("cutout") == planned(["cutout"])


def test_classes_mean_the_same_as_their_names():
    classes = planned([augmentations.get("cutout")], [detectors.Classifier], [Gaussian])
    assert classes == planned(["cutout"], ["classifier"], ["gaussian"])
    assert planned(kinds="classifier", scorers="gaussian") == planned(kinds=detectors.Classifier, scorers=Gaussian)


def test_classes_from_outside_are_referred_to_by_their_module():
    (candidate,) = planned(kinds=[Average], scorers=[Other])
    assert candidate.training.detector == f"{__name__}:Average"
    assert candidate.scorer.name == f"{__name__}:Other"
    assert detectors.get(candidate.training.detector) is Average


def test_it_is_the_product_in_order_each_once():
    twice = {"cutout": [{"area": (0.02, 0.1)}, {}, {"area": (0.02, 0.1)}]}
    candidates = planned(twice, scorers=("gaussian", Other, "gaussian"))
    assert [(c.hyperparameters["area"], c.scorer.describe()) for c in candidates] == [
        (area, scorer) for area in ((0.02, 0.1), (0.02, 0.15)) for scorer in ("gaussian", "Other")
    ]


def test_kinds_without_an_augmentation_come_last_and_once():
    candidates = planned({"cutout": [{}], "cutpaste": [{}]}, kinds=[Average, "classifier"])
    assert [c.augmentation for c in candidates] == ["cutout", "cutpaste", "none"]


def test_the_seed_is_that_of_every_training():
    assert {candidate.training.seed for candidate in planned(["cutout"], seed=7)} == {7}


class TestSettings:
    def test_each_kind_has_its_own_from_the_preset(self):
        candidates = planned({"cutout": [{}]}, kinds=("classifier", "patch"))
        for candidate, kind in zip(candidates, (detectors.Classifier, detectors.PatchClassifier), strict=True):
            assert candidate.training.settings == kind.settings_for(PRESET)

    def test_those_that_are_given_differ_from_the_presets(self):
        whole, wide = planned(kinds={"classifier": [{}, {"steps": 30, "head": (16,)}]})
        assert wide.training.settings == replace(whole.training.settings, steps=30, head=(16,))

    def test_an_encoder_is_that_of_the_kinds_that_have_one(self):
        whole, average = planned(kinds=["classifier", Average], encoder="resnet18")
        assert whole.training.settings.encoder == "resnet18"
        assert not hasattr(average.training.settings, "encoder")

    def test_an_encoder_that_is_given_for_a_kind_is_stronger(self):
        (candidate,) = planned(kinds={"classifier": [{"encoder": "small"}]}, encoder="resnet18")
        assert candidate.training.settings.encoder == "small"

    def test_settings_of_a_scorer_distinguish_candidates(self):
        candidates = planned(scorers={Weighted: [{"weight": 1.0}, {"weight": 2.0}, {}]})
        assert [candidate.scorer.settings for candidate in candidates] == [{"weight": 1.0}, {"weight": 2.0}]
        assert candidates[0].training == candidates[1].training
        assert candidates[1].scorer == ScorerSpec.of(Weighted, {"weight": 2.0})
        assert candidates[1].scorer.make().settings == {"weight": 2.0}


def test_a_set_of_names_has_one_order():
    assert planned({"cutpaste", "cutout"}) == planned(["cutout", "cutpaste"])


def local_class():
    @dataclass(frozen=True)
    class Local(augmentations.get("cutout")):
        name = "local"

    return Local


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"grids": ["cutot"]}, "did you mean.*cutout"),
        ({"grids": {"cutot": [{}]}}, "did you mean.*cutout"),
        ({"grids": []}, "augmentations"),
        ({"grids": {}}, "augmentations"),
        ({"grids": 3}, "augmentations=3: must be a non-empty sequence"),
        ({"grids": {"cutout": []}}, "'cutout': is empty"),
        ({"grids": {"cutout": {"area": (0.1, 0.2)}}}, "'cutout': must be a list of dicts"),
        ({"grids": {"cutout": "area"}}, "'cutout': must be a list of dicts"),
        ({"grids": {"cutout": [("area", (0.1, 0.2))]}}, "'cutout': must be a list of dicts"),
        ({"grids": {"cutout": 3}}, "'cutout': must be a list of dicts"),
        ({"grids": {"cutout": [{"size": 3}]}}, "hyperparameter of cutout 'size'"),
        ({"grids": {"cutout": [{"area": (0.5, 0.1)}]}}, "low must not exceed high"),
        ({"grids": {"cutout": [{"area": 0}]}}, r"area=0: must be in \(0, 1\]"),
        ({"grids": [local_class()]}, "is defined inside a function"),
        ({"kinds": ()}, "detectors"),
        ({"kinds": ("nope",)}, "detector 'nope'"),
        ({"kinds": {"classifier": []}}, "'classifier': is empty"),
        ({"kinds": {"classifier": [{"stepps": 3}]}}, "setting of detector 'classifier' 'stepps'.*did you mean steps"),
        ({"kinds": {"classifier": [{"steps": 0}]}}, "steps=0: must be at least 1"),
        ({"kinds": {"classifier": [{"steps": "200"}]}}, "steps='200': must be a whole number"),
        ({"kinds": {"classifier": [{"steps": 2.5}]}}, "steps=2.5: must be a whole number"),
        ({"kinds": {"classifier": [{"steps": True}]}}, "steps=True: must be a whole number"),
        ({"kinds": {"classifier": [{"learning_rate": None}]}}, "learning_rate=None: must be a number"),
        ({"kinds": {"classifier": [{"encoder": ["small"]}]}}, "is no encoder; give a name"),
        ({"kinds": {"classifier": [{"head": "wide"}]}}, "settings {'head': 'wide'} of detector 'classifier'"),
        (
            {"kinds": {"classifier": [{"image_size": 48}, {"image_size": 64}, {"image_size": 36}]}},
            "image sizes 36, 48, 64 of detectors: have no common multiple near the 64 px",
        ),
        ({"kinds": {"classifier": [{"__class__": 1}]}}, "setting of detector 'classifier' '__class__'"),
        ({"kinds": {Filed: [{"folder": Path("here")}]}}, "folder=.*is no JSON"),
        ({"kinds": [{"classifier": [{}]}]}, "must be a name or a class; write one mapping"),
        ({"kinds": [3]}, "detector 3: must be a subclass of Kind"),
        ({"kinds": [Nameless]}, "must declare name"),
        ({"kinds": [Sizeless]}, "image_size"),
        ({"scorers": [3]}, "scorer 3: must be a subclass of Scorer"),
        ({"scorers": {Weighted: [{"weight": math.inf}]}}, "scorer 'weighted': weight=inf: is no JSON"),
        ({"scorers": {Weighted: [{"weight": Path("here")}]}}, "is no JSON"),
        ({"scorers": {Forgetful: [{"weight": 2.0}]}}, "loses its settings weight"),
        ({"kinds": [Average], "encoder": "small"}, "encoder='small': is not a setting of any of the detectors"),
        ({"encoder": "smal"}, "did you mean small"),
        ({"scorers": ()}, "scorers"),
        ({"scorers": ("gausian",)}, "did you mean gaussian"),
        ({"scorers": {"gaussian": [{"k": 3}]}}, "takes no settings, and k was given"),
        ({"scorers": {Weighted: [{"weigth": 3}]}}, "scorer 'weighted'.*weigth"),
    ],
)
def test_what_cannot_be_planned_is_refused(changes, rule):
    with pytest.raises(InputError, match=rule):
        planned(**changes)


def test_cells_that_no_image_of_the_size_can_hold_are_refused():
    grids = {"cutpaste": [{"area": (0.9, 1.0), "aspect": (8, 10)}]}
    with pytest.raises(InputError):
        planned(grids)


class TestImageSize:
    def plan(self, *kinds, **settings):
        kinds = {kind: [settings.get(kind if isinstance(kind, str) else kind.name, {})] for kind in kinds}
        return Plan.of(GRID, kinds, ("gaussian",), PRESET)

    def test_of_kinds_that_need_the_same_it_is_the_preset_s(self):
        plan = self.plan("classifier", "patch", "pixels")
        assert plan.image_size == 64
        assert [getattr(settings, "reduction", 1) for _, settings in plan.kinds] == [1, 1, 1]

    def test_it_is_the_least_that_serves_all(self):
        plan = self.plan("classifier", Demanding, "pixels")
        assert plan.image_size == 128
        classifier, demanding, pixels = (settings for _, settings in plan.kinds)
        assert (classifier.image_size, classifier.reduction) == (64, 2)
        assert demanding.image_size == pixels.image_size == 128

    def test_of_one_demanding_kind_alone_it_is_what_it_needs(self):
        assert self.plan(Demanding).image_size == 100

    def test_kinds_of_two_sizes_are_reduced_from_a_common_multiple(self):
        plan = self.plan("classifier", "patch", classifier={"image_size": 32})
        assert plan.image_size == 64
        assert [settings.reduction for _, settings in plan.kinds] == [2, 1]


def test_a_kind_that_learns_against_images_refuses_augmentations_of_features():
    with pytest.raises(InputError, match="'feature_noise': changes features, and detector 'classifier' learns against"):
        planned(["feature_noise"])
    with pytest.raises(InputError, match="choose another augmentation"):
        detectors.Classifier(detectors.Classifier.settings_for(PRESET), augmentations.make("feature_noise"))


@pytest.mark.parametrize(
    "choices",
    [{"cutout": [{None: 1}]}, {"cutout": [{"name": 1}]}, [(torch.zeros(2), np.zeros(2)), ([],)], torch.tensor(1.0)],
    ids=["no name", "no hyperparameter", "not hashable", "a number"],
)
def test_choices_of_any_type_are_refused_in_words(choices):
    with pytest.raises(InputError):
        Plan.of(choices, ("classifier",), ("gaussian",), get_preset("quick"))


@pytest.mark.parametrize(
    ("kind", "own"),
    [("rotation", "classifier"), ("autoencoder", "error"), ("deep_svdd", "centre"), ("discriminator", "logit")],
)
def test_a_kind_that_scores_by_itself_is_planned_with_one_scorer(kind, own):
    """Any other scorer would give the same candidate again."""
    kinds = {kind: [{"score": own}, {"score": "hidden" if kind == "discriminator" else "scorer"}]}
    request = Request(GRID, kinds, ("gaussian", "knn", "kde"))
    plan = Plan.joined([request, replace(request, scorers=("knn", "gaussian"))], PRESET)
    found = [(c.training.settings.score == own, c.scorer.name) for c in plan.candidates(seed=0)]
    assert sorted(found) == [(False, "gaussian"), (False, "kde"), (False, "knn"), (True, "gaussian")]
