"""What a selection has to beat without selecting: an untrained encoder, raw pixels, one training on everything."""

from collections.abc import Callable, Sequence

import torch
from detectors.gaussian import Gaussian
from torch import Tensor

from augmentations import Augmentation
from augmentations.base import Hyperparameters, Parameters, Trial
from detectors import Classifier, Settings

PIXEL_SIDE = 16  # px, to which images are averaged: a Gaussian of raw pixels must not have more dimensions than images


class Redrawn(Augmentation):
    """One of several augmentations for every image, drawn anew each step: the "Rand" of Yoo et al., ECML PKDD 2023."""

    name = "redrawn"
    family = "redrawn"
    is_local = False
    members: tuple[Augmentation, ...]

    def __init__(self, members: Sequence[Augmentation]) -> None:
        object.__setattr__(self, "members", tuple(members))

    def check(self, size: tuple[int, int]) -> None:
        for member in self.members:
            member.check(size)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        return []

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        raise NotImplementedError("its members are given, not searched")

    def _draw(self, n: int, size: tuple[int, int], source: torch.Generator) -> Parameters:
        which = torch.randint(len(self.members), (n,), generator=source)
        drawn: Parameters = {"which": which}
        for i, member in enumerate(self.members):
            drawn |= {f"{i} {name}": value for name, value in member._draw(n, size, source).items()}
        return drawn

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        made = torch.empty_like(images)
        for i, member in enumerate(self.members):
            rows = (parameters["which"] == i).nonzero()[:, 0]
            start = f"{i} "
            own = {k.removeprefix(start): value[rows] for k, value in parameters.items() if k.startswith(start)}
            if len(rows):
                made[rows] = member._transform(images[rows], own)
        return made


def untrained(
    fit: Tensor, test: Tensor, members: Sequence[Augmentation], settings: Settings, seed: int, device: str
) -> Tensor:
    """Scores (k,) of test images (k,C,S,S) by an encoder as its training would begin with it, fitted to (n,C,S,S)."""
    detector = Classifier(members[0], settings, seed=seed, device=device).leave_untrained(fit)
    return detector.fit_scorer(fit).score(test)


def pixels(
    fit: Tensor, test: Tensor, members: Sequence[Augmentation], settings: Settings, seed: int, device: str
) -> Tensor:
    """Scores (k,) by the same density of raw pixels, averaged to 16 px a side: no encoder, no training."""
    fit, test = (torch.nn.functional.adaptive_avg_pool2d(images, PIXEL_SIDE).flatten(1) for images in (fit, test))
    return Gaussian.fit(fit).score(test)


def trained_random(
    fit: Tensor, test: Tensor, members: Sequence[Augmentation], settings: Settings, seed: int, device: str
) -> Tensor:
    """Scores (k,) by one detector whose augmentation and hyperparameters are redrawn for every image it sees."""
    return Classifier(Redrawn(members), settings, seed=seed, device=device).fit(fit).score(test)


Floor = Callable[[Tensor, Tensor, Sequence[Augmentation], Settings, int, str], Tensor]
FLOORS: dict[str, Floor] = {f.__name__: f for f in (untrained, pixels, trained_random)}
