"""The kind whose head learns pseudo anomalies on frozen features."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import augmentations
import detectors
from augmentations import Augmentation, InputError
from augmentations.randomness import generator
from detectors.discriminator import Discriminator, DiscriminatorSettings
from detectors.shared_features import SharedFeatures
from detectors.training import TrainingDivergedError
from selector.testing.detector import KindContract, stripes


@dataclass(frozen=True)
class Noise(Augmentation):
    """Gaussian noise on the left half of the features."""

    name: ClassVar[str] = "left_noise"
    family: ClassVar[str] = "left_noise"
    is_local: ClassVar[bool] = True
    space: ClassVar[str] = "features"

    sigma: float = 1.0

    @classmethod
    def grid(cls):
        return [cls(sigma=sigma).hyperparameters() for sigma in (0.5, 1.0, 2.0, 4.0)]

    @classmethod
    def suggest(cls, trial):
        return cls(sigma=trial.suggest_float("sigma", 0.1, 3)).hyperparameters()

    def _draw(self, n, size, generator):
        return {"seed": torch.randint(2**31, (n,), generator=generator)}

    def apply(self, images, parameters):
        changed = images.clone()
        half = images.shape[3] // 2
        for row, seed in enumerate(parameters["seed"].tolist()):
            noise = torch.randn(images[row].shape, generator=torch.Generator().manual_seed(seed))
            changed[row, :, :, :half] += self.sigma * noise[:, :, :half]
        return changed

    def _transform(self, images, parameters):
        raise NotImplementedError


def discriminator(augmentation=None, seed=0, **settings):
    settings = {"image_size": 32, "levels": (1, 2), "width": 16, "steps": 40, "batch": 8, "pool": 40} | settings
    augmentation = augmentation or augmentations.make("cutout", area=(0.03, 0.15))
    return Discriminator(DiscriminatorSettings(**settings), augmentation, seed=seed, device="cpu")


class TestOnImages(KindContract):
    def make(self, *, seed=0, channels=1):
        return discriminator(seed=seed, steps=3, pool=8)

    def learn(self):
        return discriminator()


class TestOnFeatures(KindContract):
    def make(self, *, seed=0, channels=1):
        return discriminator(Noise(), seed=seed, steps=3)

    def learn(self):
        return discriminator(Noise())


class TestOnLogits(KindContract):
    def make(self, *, seed=0, channels=1):
        return discriminator(seed=seed, steps=3, pool=8, score="logit")

    def learn(self):
        return discriminator(steps=150, pool=100, score="logit")


def test_features_are_standardised_so_that_noise_means_the_same_on_every_encoder():
    detector = discriminator().train(stripes(30))
    module = detector.scoring_module()
    features = torch.cat([module.standardised(levels) for levels in detector.levels(stripes(30))])
    flat = features.movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(flat.mean(0), torch.zeros(flat.shape[1]), atol=1e-3, rtol=0)
    assert flat.std(0).max() == pytest.approx(1, abs=1e-2)


def test_the_head_learns_and_the_encoder_stays_as_it_was_built():
    images = stripes(30)
    untrained, trained = discriminator().random_init(images), discriminator(steps=80).train(images)
    for name, tensor in untrained.encoder.state_dict().items():
        assert torch.equal(trained.encoder.state_dict()[name], tensor)
    assert trained.losses[-10:].mean() < trained.losses[:10].mean() / 2
    assert not any(parameter.requires_grad for parameter in trained.head.parameters())
    assert not Discriminator.learns_encoder


def test_only_the_head_is_trained_state():
    detector = discriminator(steps=3).train(stripes(12))
    assert all(name.startswith("head.") for name in detector.trained_state())
    assert all(name.startswith("encoder.") for name in detector.given_state())


def test_augmented_images_go_through_the_encoder_once_per_training(monkeypatch):
    seen = []
    computed = Discriminator._computed
    monkeypatch.setattr(
        Discriminator,
        "_computed",
        lambda self, images, *depth: seen.append(len(images)) or computed(self, images, *depth),
    )
    discriminator(steps=50, pool=40).train(stripes(24))
    assert sum(seen) == 24 + 40


def test_noise_on_features_needs_no_encoder_where_clean_features_are_shared(tmp_path, monkeypatch):
    images, shared = stripes(24), SharedFeatures(tmp_path, 2**30)
    shared.keep(images)

    def outputs(detector):
        return detector.score(images), *detector.pseudo_embeddings(images, generator(0))

    expected = outputs(discriminator(Noise()).fit(images))
    for computes in (True, False):
        detector = discriminator(Noise())
        detector.shared = shared
        if not computes:
            monkeypatch.setattr(Discriminator, "_computed", None)
        for actual, direct in zip(outputs(detector.fit(images)), expected, strict=True):
            assert torch.equal(actual, direct)


def test_pseudo_anomalies_in_features_are_no_images():
    detector = discriminator(Noise(), steps=3).fit(stripes(12))
    assert detector.pseudo_anomalies(stripes(3), generator(0)) is None
    assert not detector.pseudo_are_images()
    assert detector.has_pseudo_anomalies()
    assert discriminator().pseudo_are_images()


def test_locations_that_noise_changed_are_found():
    """What the head of changed locations learned is where, from features alone."""
    images = stripes(40)
    detector = discriminator(Noise(sigma=3.0), steps=150, score="logit").fit(images)
    module = detector.module()
    features = module.standardised(next(detector.levels(stripes(10, seed=1))))
    drawn = detector.augmentation.sample(10, detector.grid, generator(0))
    margins = module.head.location_logits(module.head(detector.augmentation.apply(features, drawn)))
    margins = margins[..., 1] - margins[..., 0]
    half = margins.shape[2] // 2
    assert margins[:, :, :half].mean() > margins[:, :, half:].mean() + 1


def test_each_part_of_an_augmentation_is_a_class():
    detector = discriminator(augmentations.make("cutpaste_3way"), steps=3, pool=8).fit(stripes(12))
    assert detector.head.classify.out_features == 3
    logit = discriminator(augmentations.make("cutpaste_3way"), steps=3, pool=8, score="logit").fit(stripes(12))
    assert logit.score(stripes(3)).shape == (3,)
    assert not logit.score_is_distance
    assert detector.score_is_distance


@pytest.mark.parametrize("form", [None, pytest.param("onnx", marks=pytest.mark.slow)])
@pytest.mark.parametrize("score", ["hidden", "logit"])
def test_it_can_be_exported(score, form, program):
    detector = discriminator(score=score, steps=10).fit(stripes(24))
    exported = program(detector, stripes(4), form)
    for images in (stripes(1, seed=1), stripes(5, seed=2)):
        scores, maps, _ = exported(images)
        torch.testing.assert_close(scores, detector.score(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(maps, detector.score_map(images), rtol=1e-4, atol=1e-4)


def test_a_training_that_diverges_leaves_the_detector_as_it_was():
    detector = discriminator().fit(stripes(12))
    expected = detector.score(stripes(3))
    object.__setattr__(detector.settings, "learning_rate", 1e30)
    with pytest.raises(TrainingDivergedError, match="learning_rate"):
        detector.train(stripes(12))
    assert torch.equal(detector.score(stripes(3)), expected)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("image_size", 0), ("side", 0), ("width", 0), ("steps", 0), ("batch", 0), ("learning_rate", 0.0)),
        *(("weight_decay", -1.0), ("pool", 0), ("noise", -0.1), ("score", "both")),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(InputError, match=setting):
        DiscriminatorSettings(**{"image_size": 32, setting: value})


def test_it_is_registered():
    assert detectors.get("discriminator") is Discriminator


@pytest.mark.parametrize("name", ["feature_noise", "masked_feature_noise"])
def test_it_learns_the_registered_noise_on_features(name):
    detector = discriminator(augmentations.make(name), steps=5).fit(stripes(12))
    embeddings, scores = detector.pseudo_embeddings(stripes(3), generator(0))
    assert embeddings.shape == detector.embed(stripes(3)).shape
    assert scores.isfinite().all()
