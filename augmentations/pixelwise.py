"""Changes of single values all over the image: noise is added, or values are masked."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from augmentations.base import Augmentation, Hyperparameters, Parameters, Trial, cell
from augmentations.fields import draw_seeds, white, white_gaussian
from augmentations.hyperparameters import Bounds, Range
from augmentations.randomness import log_uniform, uniform

Sigma = Annotated[Range, Bounds("must be in (0, 1]", lambda x: 0 < x <= 1)]
Share = Annotated[Range, Bounds("must be in (0, 1], a share of the values", lambda x: 0 < x <= 1)]


@dataclass(frozen=True)
class Noise(Augmentation):
    """Adds Gaussian noise to every value of the image, and clamps to [0, 1].

    ``sigma``: its standard deviation, log-uniform. Source: SSL-AD (Yoo et al., 2023), with 0.1 and no clamping.
    """

    name: ClassVar[str] = "noise"
    family: ClassVar[str] = "noise"
    is_local: ClassVar[bool] = False
    sigma: Sigma = (0.05, 0.2)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        return [cell(cls, sigma=ends) for ends in ((0.02, 0.05), (0.05, 0.1), (0.1, 0.1), (0.1, 0.3))]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        low = trial.suggest_float(f"{cls.name}.sigma_low", 0.02, 0.2, log=True)
        return cell(cls, sigma=(low, low * trial.suggest_float(f"{cls.name}.sigma_factor", 1.0, 3.0)))

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        return {"sigma": log_uniform(self.sigma, n, generator), "seed": draw_seeds(n, generator)}

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        added = white_gaussian(parameters["seed"], tuple(images.shape[1:]), images.dtype)
        return added.mul_(parameters["sigma"][:, None, None, None]).add_(images).clamp_(0, 1)


@dataclass(frozen=True)
class Mask(Augmentation):
    """Sets single values, channel by channel, to 0.

    ``share``: of the values of an image. Source: SSL-AD (Yoo et al., 2023), with a share of 0.1.
    """

    name: ClassVar[str] = "mask"
    family: ClassVar[str] = "mask"
    is_local: ClassVar[bool] = False
    share: Share = (0.05, 0.2)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        return [cell(cls, share=ends) for ends in ((0.01, 0.05), (0.05, 0.1), (0.1, 0.1), (0.1, 0.3))]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        low = trial.suggest_float(f"{cls.name}.share_low", 0.01, 0.3, log=True)
        return cell(cls, share=(low, low + trial.suggest_float(f"{cls.name}.share_width", 0.0, 0.3)))

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        return {"share": uniform(self.share, n, generator), "seed": draw_seeds(n, generator)}

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        drawn = white(parameters["seed"], tuple(images.shape[1:]), images.dtype)
        return images * (drawn >= parameters["share"][:, None, None, None])
