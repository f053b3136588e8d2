"""Crop: a part of the image, enlarged to the whole."""

from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from augmentations import patches
from augmentations.base import Augmentation, Hyperparameters, Parameters, Trial, cell
from augmentations.hyperparameters import Aspect, Bounds, Range

Part = Annotated[Range, Bounds("must be in (0, 0.95], a share of the image", lambda x: 0 < x <= 0.95)]


@dataclass(frozen=True)
class Crop(Augmentation):
    """Shows a part of the image at the size of the whole, so that what is normal is too large and partly out of view.

    ``area``: share of the image that is shown; ``aspect``: its width / height, log-uniform.
    Source: SSL-AD (Yoo et al., 2023), from 0.08 of the area on; shapes as in torchvision's RandomResizedCrop.
    """

    name: ClassVar[str] = "crop"
    family: ClassVar[str] = "crop"
    is_local: ClassVar[bool] = False
    area: Part = (0.2, 0.4)
    aspect: Aspect = (0.8, 1.25)

    def check(self, size: tuple[int, int]) -> None:
        super().check(size)
        patches.check_fit(size, self.area, self.aspect, ((0.0, 0.0),))

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        areas = ((0.1, 0.25), (0.25, 0.5), (0.5, 0.75))
        return [cell(cls, area=area, aspect=aspect) for area, aspect in product(areas, ((1.0, 1.0), (0.8, 1.25)))]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        low = trial.suggest_float(f"{cls.name}.area_low", 0.05, 0.4)
        width = trial.suggest_float(f"{cls.name}.area_width", 0.0, 0.3)
        spread = trial.suggest_float(f"{cls.name}.aspect_spread", 1.0, 1.4)
        return cell(cls, area=(low, low + width), aspect=(1 / spread, spread))

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        return patches.draw(n, size, self.area, self.aspect, (0.0, 0.0), generator, whole_pixels=False)

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        positions = []
        for centre, extent, side in (("x", "width", images.shape[3]), ("y", "height", images.shape[2])):
            share = (torch.arange(side, device=images.device, dtype=images.dtype) + 0.5) / side - 0.5
            middle, reach = parameters[centre][:, None], parameters[extent][:, None]
            positions.append((middle + share * reach).clamp(0.5, side - 0.5))
        x, y = positions
        n, _, height, width = images.shape
        return patches.bilinear(images, x[:, None, :].expand(n, height, -1), y[:, :, None].expand(n, -1, width))
