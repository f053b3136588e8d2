"""Gaussian blur, of the whole image or of a patch."""

from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from augmentations.base import Augmentation, Hyperparameters, Parameters, Trial, cell
from augmentations.hyperparameters import Bounds, Range
from augmentations.patches import PatchAugmentation, coverage, frame, suggest_patch
from augmentations.randomness import log_uniform

Width = Annotated[Range, Bounds("must be in (0, 0.5], a share of the image's shorter side", lambda x: 0 < x <= 0.5)]


@dataclass(frozen=True)
class Blur(Augmentation):
    """Blurs the whole image. ``sigma``: of the Gaussian, as a share of the image's shorter side, log-uniform.

    Source: SSL-AD (Yoo et al., 2023), with 0.1 to 2 px of 32 or 256.
    """

    name: ClassVar[str] = "blur"
    family: ClassVar[str] = "blur"
    is_local: ClassVar[bool] = False
    sigma: Width = (0.01, 0.04)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        return [cell(cls, sigma=ends) for ends in ((0.008, 0.015), (0.015, 0.03), (0.03, 0.06), (0.06, 0.12))]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        return cell(cls, sigma=_suggest_sigma(cls.name, trial))

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        return {"sigma": min(size) * log_uniform(self.sigma, n, generator)}

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        return blurred(images, parameters["sigma"])


@dataclass(frozen=True)
class BlurPatch(PatchAugmentation):
    """Blurs one patch. Fields as in PatchAugmentation, and ``sigma`` as in Blur."""

    name: ClassVar[str] = "blur_patch"
    family: ClassVar[str] = "blur"
    sigma: Width = (0.02, 0.06)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        areas, sigmas = ((0.005, 0.02), (0.02, 0.05), (0.05, 0.15)), ((0.015, 0.03), (0.03, 0.06))
        return [cell(cls, area=area, sigma=sigma) for area, sigma in product(areas, sigmas)]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        return cell(cls, **suggest_patch(cls.name, trial), sigma=_suggest_sigma(cls.name, trial))

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        patch = super()._draw(n, size, generator)
        return {**patch, "sigma": min(size) * log_uniform(self.sigma, n, generator)}

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        alpha = coverage(parameters, *frame(parameters, images.shape[-2:]))
        return torch.lerp(images, blurred(images, parameters["sigma"]), alpha)


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """(N,C,H,W) images under a Gaussian of ``sigma`` (N,) px; at the border, of what is inside the image.

    A blur is linear along each axis, so that two matrices per image do it, whatever its width.
    """
    rows, columns = (_weights(side, sigma) for side in images.shape[-2:])
    return (rows[:, None] @ images @ columns[:, None].mT).clamp_(0, 1)


def _weights(side: int, sigma: Tensor) -> Tensor:
    """(N,side,side): what each pixel along an axis gives to each."""
    places = torch.arange(side, device=sigma.device, dtype=sigma.dtype)
    distance = (places[:, None] - places) / sigma[:, None, None]
    return torch.softmax(-(distance**2) / 2, dim=2)


def _suggest_sigma(name: str, trial: Trial) -> Range:
    low = trial.suggest_float(f"{name}.sigma_low", 0.008, 0.05, log=True)
    return low, low * trial.suggest_float(f"{name}.sigma_factor", 1.0, 3.0)
