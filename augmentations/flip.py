"""Flips of the whole image."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from augmentations.base import Augmentation, Hyperparameters, Parameters, Trial, cell
from augmentations.hyperparameters import Choice
from augmentations.randomness import noise

VERTICAL, HORIZONTAL, BOTH, ANY = "vertical", "horizontal", "both", "any"


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors the image: upside down, left to right, both, or for each image any of the three.

    Source: SSL-AD (Yoo et al., 2023), whose flip is the vertical one.
    """

    name: ClassVar[str] = "flip"
    family: ClassVar[str] = "flip"
    is_local: ClassVar[bool] = False
    direction: Annotated[str, Choice(ANY, VERTICAL, HORIZONTAL, BOTH)] = ANY

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        return [cell(cls, direction=direction) for direction in (VERTICAL, HORIZONTAL, BOTH, ANY)]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        directions = (VERTICAL, HORIZONTAL, BOTH, ANY)
        return cell(cls, direction=trial.suggest_categorical(f"{cls.name}.direction", directions))

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        which = (noise(n, generator) * 3).long()  # 0: vertical, 1: horizontal, 2: both
        if self.direction != ANY:
            which = torch.full_like(which, (VERTICAL, HORIZONTAL, BOTH).index(self.direction))
        return {"is_vertical": which != 1, "is_horizontal": which != 0}

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        return flipped(images, parameters["is_vertical"], parameters["is_horizontal"])


def flipped(images: Tensor, is_vertical: Tensor, is_horizontal: Tensor) -> Tensor:
    """(N,C,H,W) images, each flipped as (N,) say."""
    images = torch.where(is_vertical[:, None, None, None], images.flip(2), images)
    return torch.where(is_horizontal[:, None, None, None], images.flip(3), images)
