"""Colours of the whole image: inverted or jittered."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from augmentations.base import Augmentation, Hyperparameters, Parameters, Trial, cell
from augmentations.color import draw_jitter, jitter
from augmentations.hyperparameters import Bounds, Jitter, Range
from augmentations.randomness import uniform

Strength = Annotated[Range, Bounds("must be in (0, 1]", lambda x: 0 < x <= 1)]


@dataclass(frozen=True)
class Invert(Augmentation):
    """Moves every pixel x toward its negative 1 - x, by the share ``strength``: 1 inverts, 0.5 leaves grey.

    Source: SSL-AD (Yoo et al., 2023), with strength 1.
    """

    name: ClassVar[str] = "invert"
    family: ClassVar[str] = "invert"
    is_local: ClassVar[bool] = False
    strength: Strength = (0.8, 1.0)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        return [cell(cls, strength=ends) for ends in ((0.2, 0.4), (0.6, 0.8), (0.8, 1.0), (1.0, 1.0))]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        low = trial.suggest_float(f"{cls.name}.strength_low", 0.1, 1.0)
        return cell(cls, strength=(low, trial.suggest_float(f"{cls.name}.strength_share", 0.0, 1.0) * (1 - low) + low))

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        return {"strength": uniform(self.strength, n, generator)}

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        return torch.lerp(images, 1 - images, parameters["strength"][:, None, None, None])


@dataclass(frozen=True)
class Colour(Augmentation):
    """Jitters brightness, contrast, saturation and hue of the whole image (see ``color``).

    Source: SSL-AD (Yoo et al., 2023), there stronger in all but the hue.
    """

    name: ClassVar[str] = "colour"
    family: ClassVar[str] = "colour"
    is_local: ClassVar[bool] = False
    jitter: Jitter = (0.2, 0.5)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        return [cell(cls, jitter=ends) for ends in ((0.05, 0.15), (0.1, 0.3), (0.3, 0.5), (0.5, 0.5))]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        low = trial.suggest_float(f"{cls.name}.jitter_low", 0.05, 0.3)
        return cell(cls, jitter=(low, low + trial.suggest_float(f"{cls.name}.jitter_width", 0.0, 0.2)))

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        return draw_jitter(n, self.jitter, generator)

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        return jitter(images, parameters, torch.ones_like(images[:, :1]))
