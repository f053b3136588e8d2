"""Perlin: a texture from another normal image shows through a mask of the shape of Perlin noise.

Source: DRAEM (Zavrtanik et al., ICCV 2021); GLASS (Chen et al., ECCV 2024). Their textures are another data set's;
here they are those of the train images, so that no other data is needed.
"""

from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from augmentations.base import Augmentation, Hyperparameters, Parameters, Trial, cell
from augmentations.color import draw_jitter, jitter
from augmentations.fields import draw_seeds, perlin, share_above
from augmentations.flip import flipped
from augmentations.hyperparameters import Bounds, Jitter, Range
from augmentations.partners import draw_partner, partners
from augmentations.randomness import log_uniform, noise, uniform

EDGE = 0.05  # of the noise, whose values are about -0.7 to 0.7: over so much of it the mask sets in

Area = Annotated[Range, Bounds("must be in (0, 0.8], a share of the image", lambda x: 0 < x <= 0.8)]
Cells = Annotated[Range, Bounds("must be in [1, 64]", lambda x: 1 <= x <= 64)]
Opacity = Annotated[Range, Bounds("must be in (0, 1]", lambda x: 0 < x <= 1)]


@dataclass(frozen=True)
class Perlin(Augmentation):
    """Shows another image of the batch, moved, flipped and jittered, where Perlin noise is highest.

    area: share of the image that the mask covers.
    cells: how many cells of the noise a side spans, log-uniform: few make one large blot, many make speckles.
    opacity: share of the texture in the mask.
    jitter: strength of the texture's colour jitter (see ``color``).
    """

    name: ClassVar[str] = "perlin"
    family: ClassVar[str] = "perlin"
    is_local: ClassVar[bool] = True
    uses_batch: ClassVar[bool] = True
    area: Area = (0.02, 0.2)
    cells: Cells = (2.0, 8.0)
    opacity: Opacity = (0.4, 1.0)
    jitter: Jitter = (0.0, 0.2)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        areas, cells, opacities = ((0.01, 0.05), (0.05, 0.2)), ((2.0, 4.0), (4.0, 12.0)), ((0.2, 0.6), (0.6, 1.0))
        return [cell(cls, area=a, cells=c, opacity=o) for a, c, o in product(areas, cells, opacities)]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        area = trial.suggest_float(f"{cls.name}.area_low", 0.005, 0.1, log=True)
        wider = trial.suggest_float(f"{cls.name}.area_width", 0.0, 0.2)
        cells = trial.suggest_float(f"{cls.name}.cells_low", 1.0, 8.0, log=True)
        factor = trial.suggest_float(f"{cls.name}.cells_factor", 1.0, 4.0)
        opacity = trial.suggest_float(f"{cls.name}.opacity_low", 0.1, 0.8)
        more = trial.suggest_float(f"{cls.name}.opacity_width", 0.0, 0.2)
        strength = trial.suggest_float(f"{cls.name}.jitter_high", 0.0, 0.3)
        return cell(
            cls,
            area=(area, area + wider),
            cells=(cells, cells * factor),
            opacity=(opacity, opacity + more),
            jitter=(0.0, strength),
        )

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        return {
            "area": uniform(self.area, n, generator),
            "cells": log_uniform(self.cells, n, generator),
            "opacity": uniform(self.opacity, n, generator),
            "seed": draw_seeds(n, generator),
            "is_vertical": noise(n, generator) < 0.5,
            "is_horizontal": noise(n, generator) < 0.5,
            "moved_x": noise(n, generator),
            "moved_y": noise(n, generator),
            **draw_partner(n, generator),
            **draw_jitter(n, self.jitter, generator),
        }

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        height, width = images.shape[-2:]
        field = perlin(parameters["seed"], parameters["cells"], (height, width))
        alpha = ((field - share_above(field, parameters["area"])) / EDGE).clamp(0, 1).unsqueeze(1)
        texture = flipped(
            partners(images, parameters["partner"]), parameters["is_vertical"], parameters["is_horizontal"]
        )
        texture = jitter(_moved(texture, parameters), parameters, alpha)
        return torch.lerp(images, texture, alpha * parameters["opacity"][:, None, None, None])


def _moved(images: Tensor, parameters: Parameters) -> Tensor:
    """Images moved by whole pixels; what leaves at one side enters at the other."""
    for axis, name in ((2, "moved_y"), (3, "moved_x")):
        side = images.shape[axis]
        places = torch.arange(side, device=images.device) + (parameters[name] * side).long()[:, None]
        shape = (len(images), 1, side, 1) if axis == 2 else (len(images), 1, 1, side)
        images = images.gather(axis, places.remainder(side).view(shape).expand_as(images))
    return images
