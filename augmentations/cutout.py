"""CutOut and CutAvg: a patch is erased."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from augmentations.base import Parameters
from augmentations.patches import PatchAugmentation, coverage, frame, weighted_mean


@dataclass(frozen=True)
class CutOut(PatchAugmentation):
    """Paints the patch black (0). Source: DeVries and Taylor, 2017; with drawn shapes, Zhong et al., 2020."""

    name: ClassVar[str] = "cutout"
    family: ClassVar[str] = "cutout"

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        alpha = coverage(parameters, *frame(parameters, images.shape[-2:]))
        return images * (1 - alpha)


@dataclass(frozen=True)
class CutAvg(PatchAugmentation):
    """Paints the patch with the mean colour of the pixels it covers, channel by channel. Source: DSV."""

    name: ClassVar[str] = "cutavg"
    family: ClassVar[str] = "cutavg"

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        alpha = coverage(parameters, *frame(parameters, images.shape[-2:]))
        # Of what the image has above its own mean, which is small, so that a constant image keeps its value.
        centre = images.mean((2, 3), keepdim=True)
        mean = centre + weighted_mean(images - centre, alpha)
        return torch.lerp(images, mean.clamp(0, 1), alpha)  # rounding makes less than black of a black patch
