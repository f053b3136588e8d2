"""What a selection has to beat without selecting: an untrained encoder, raw pixels, one training on everything."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from augmentations import Augmentation, InputError, make
from augmentations.base import Hyperparameters, Parameters, Trial
from detectors import Classifier, ClassifierSettings
from detectors.pixels import Pixels, PixelsSettings


class RandomAugmentation(Augmentation):
    """One of several augmentations, drawn for every image in every step: "Rand" of Yoo et al., ECML PKDD 2023."""

    name = "random_augmentation"
    family = "random_augmentation"
    is_local = False
    members: tuple[Augmentation, ...]

    def __init__(self, members: Sequence[Augmentation]) -> None:
        if not members:
            raise InputError("a random augmentation", "has none to draw from", "train kinds that take one")
        object.__setattr__(self, "members", tuple(members))

    def check(self, size: tuple[int, int]) -> None:
        for member in self.members:
            member.check(size)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        return []

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        raise NotImplementedError("its members are fixed, not searched")

    def _draw(self, n: int, size: tuple[int, int], source: torch.Generator) -> Parameters:
        which = torch.randint(len(self.members), (n,), generator=source)
        drawn: Parameters = {"which": which}
        for i, member in enumerate(self.members):
            drawn |= {f"{i} {name}": value for name, value in member._draw(n, size, source).items()}
        return drawn

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        changed = torch.empty_like(images)
        for i, member in enumerate(self.members):
            rows = (parameters["which"] == i).nonzero()[:, 0]
            start = f"{i} "
            own = {k.removeprefix(start): value[rows] for k, value in parameters.items() if k.startswith(start)}
            if len(rows):
                changed[rows] = member._transform(images[rows], own)
        return changed


def untrained(
    train: Tensor, test: Tensor, members: Sequence[Augmentation], settings: ClassifierSettings, seed: int, device: str
) -> Tensor:
    """Scores (k,) of test images (k,C,S,S) by an encoder before its training, and a scorer fitted to (n,C,S,S)."""
    augmentation = members[0] if members else make("cutout")  # which one makes no difference before a training
    detector = Classifier(settings, augmentation, seed=seed, device=device).random_init(train)
    return detector.fit_scorer(train).score(test)


def pixels(
    train: Tensor, test: Tensor, members: Sequence[Augmentation], settings: ClassifierSettings, seed: int, device: str
) -> Tensor:
    """Scores (k,) by a Gaussian of raw pixels, averaged to 16 px per side: no encoder, no training."""
    return Pixels(PixelsSettings(train.shape[2]), device=device).fit(train).score(test)


def trained_random(
    train: Tensor, test: Tensor, members: Sequence[Augmentation], settings: ClassifierSettings, seed: int, device: str
) -> Tensor:
    """Scores (k,) by one detector with a random augmentation and hyperparameters for every image of every step."""
    return Classifier(settings, RandomAugmentation(members), seed=seed, device=device).fit(train).score(test)


Baseline = Callable[[Tensor, Tensor, Sequence[Augmentation], ClassifierSettings, int, str], Tensor]
BASELINES: dict[str, Baseline] = {f.__name__: f for f in (untrained, pixels, trained_random)}
