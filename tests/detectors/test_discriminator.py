"""The kind whose head learns pseudo anomalies on frozen features."""

from dataclasses import dataclass
from typing import ClassVar

import torch

import augmentations
from augmentations import Augmentation
from detectors.discriminator import Discriminator, DiscriminatorSettings
from selector.testing.detector import KindContract


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
