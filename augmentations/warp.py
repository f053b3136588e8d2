"""Warp: a part of the image is pushed aside, smoothly."""

import math
from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from augmentations.base import Hyperparameters, Parameters, Trial, cell
from augmentations.hyperparameters import Angle, Area, Aspect, Bounds, Range
from augmentations.patches import PatchAugmentation, bilinear, frame, suggest_patch, turn
from augmentations.randomness import noise, uniform

# Of a shift (1 - r^2)^2: with a strength of 1 / 1.54 or more, pixels would overtake each other.
Strength = Annotated[Range, Bounds("must be in (0, 0.6]", lambda x: 0 < x <= 0.6)]


@dataclass(frozen=True)
class Warp(PatchAugmentation):
    """Pushes what an ellipse shows in one direction: most in its middle, not at all at its border.

    Fields as in PatchAugmentation for the box around the ellipse, and ``strength``: the shift of the middle, as a
    share of the half side of the box along it. The direction is drawn.
    """

    name: ClassVar[str] = "warp"
    family: ClassVar[str] = "warp"
    area: Area = (0.05, 0.2)
    aspect: Aspect = (0.5, 2.0)
    angle: Angle = (-45.0, 45.0)
    strength: Strength = (0.3, 0.6)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        areas, strengths = ((0.02, 0.06), (0.06, 0.15), (0.15, 0.3)), ((0.15, 0.3), (0.3, 0.6))
        return [cell(cls, area=area, strength=strength) for area, strength in product(areas, strengths)]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        low = trial.suggest_float(f"{cls.name}.strength_low", 0.1, 0.35)
        width = trial.suggest_float(f"{cls.name}.strength_width", 0.0, 0.2)
        return cell(cls, **suggest_patch(cls.name, trial), strength=(low, low + width))

    @property
    def whole_pixels(self) -> bool:
        return False

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        patch = super()._draw(n, size, generator)
        return {
            **patch,
            "strength": uniform(self.strength, n, generator),
            "direction": 2 * math.pi * noise(n, generator),
        }

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        height, width = images.shape[-2:]
        half_width, half_height = (parameters[side][:, None, None] / 2 for side in ("width", "height"))
        along, across = frame(parameters, (height, width))
        inside = 1 - (along / half_width) ** 2 - (across / half_height) ** 2
        shift = inside.clamp(min=0) ** 2 * parameters["strength"][:, None, None]
        direction = parameters["direction"][:, None, None]
        pushed_along, pushed_across = shift * half_width * direction.cos(), shift * half_height * direction.sin()
        # From the frame of the patch to that of the image: the inverse of the turn in ``frame``.
        cos, sin = (value[:, None, None] for value in turn(parameters["angle"]))
        columns, rows = (torch.arange(side, device=images.device, dtype=images.dtype) + 0.5 for side in (width, height))
        x = columns - (pushed_along * cos + pushed_across * sin)
        y = rows[:, None] - (pushed_across * cos - pushed_along * sin)
        return bilinear(images, x.clamp(0.5, width - 0.5), y.clamp(0.5, height - 0.5))
