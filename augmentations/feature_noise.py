"""Gaussian noise on features, everywhere or under a mask: pseudo anomalies that are no images."""

from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from augmentations.base import FEATURES, Augmentation, Hyperparameters, Parameters, Trial, cell
from augmentations.fields import draw_seeds, perlin, share_above, white_gaussian
from augmentations.hyperparameters import Bounds, Number, Range
from augmentations.randomness import log_uniform

CELLS = (1.0, 4.0)  # of the mask's noise along a side, log-uniform: feature maps have few locations

Sigma = Annotated[Range, Bounds("must be in (0, 100]", lambda x: 0 < x <= 100)]
Threshold = Annotated[Number, Bounds("must be in [-1, 1]", lambda x: -1 <= x <= 1)]
Share = Annotated[Number, Bounds("must be in (0, 0.9], a share of the locations", lambda x: 0 < x <= 0.9)]


@dataclass(frozen=True)
class FeatureNoise(Augmentation):
    """Adds Gaussian noise to the features of every location.

    ``sigma``: its standard deviation, log-uniform; in those of a channel where features are standardised.
    Source: SimpleNet (Liu et al., CVPR 2023), with 0.015 on adapted features.
    """

    name: ClassVar[str] = "feature_noise"
    family: ClassVar[str] = "feature_noise"
    is_local: ClassVar[bool] = False
    space: ClassVar[str] = FEATURES
    sigma: Sigma = (0.5, 0.5)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        return [cell(cls, sigma=sigma) for sigma in (0.1, 0.25, 0.5, 1.0)]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        return cell(cls, sigma=trial.suggest_float(f"{cls.name}.sigma", 0.05, 2.0, log=True))

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        return {"sigma": log_uniform(self.sigma, n, generator), "seed": draw_seeds(n, generator)}

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        added = white_gaussian(parameters["seed"], tuple(images.shape[1:]), images.dtype)
        return images + parameters["sigma"][:, None, None, None] * added


@dataclass(frozen=True)
class MaskedFeatureNoise(FeatureNoise):
    """Adds Gaussian noise to the features of the locations where Perlin noise is highest.

    sigma: as in FeatureNoise.
    threshold: what Perlin noise, divided by its largest absolute value, must exceed.
    share: of the locations that get noise at most, whatever the threshold; one gets it at least.
    Source: SuperSimpleNet (Rolih et al., 2024), with thresholds of 0.2 and 0.6.
    """

    name: ClassVar[str] = "masked_feature_noise"
    is_local: ClassVar[bool] = True
    threshold: Threshold = 0.2
    share: Share = 0.5

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        sigmas, shares = (0.25, 0.5, 1.0), ((0.2, 0.5), (0.6, 0.2))
        return [cell(cls, sigma=sigma, threshold=t, share=share) for sigma, (t, share) in product(sigmas, shares)]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        return cell(
            cls,
            sigma=trial.suggest_float(f"{cls.name}.sigma", 0.05, 2.0, log=True),
            threshold=trial.suggest_float(f"{cls.name}.threshold", 0.0, 0.8),
            share=trial.suggest_float(f"{cls.name}.share", 0.05, 0.8),
        )

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        drawn = super()._draw(n, size, generator)
        limits = {"threshold": self.threshold, "share": self.share}
        constant = {name: torch.as_tensor(limit, dtype=torch.float64).expand(n) for name, limit in limits.items()}
        return {
            **drawn,
            "cells": log_uniform(CELLS, n, generator),
            "mask_seed": draw_seeds(n, generator),
            **constant,
        }

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        field = perlin(parameters["mask_seed"], parameters["cells"], (images.shape[2], images.shape[3]))
        field = field / field.abs().amax((1, 2), keepdim=True).clamp(min=1e-6)
        least = torch.maximum(share_above(field, parameters["share"]), parameters["threshold"][:, None, None])
        mask = field >= torch.minimum(least, field.amax((1, 2), keepdim=True))
        noisy = super()._transform(images, parameters)
        return torch.where(mask.unsqueeze(1), noisy, images)
