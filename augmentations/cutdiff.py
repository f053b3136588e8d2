"""CutDiff: a soft dark spot, smooth in every hyperparameter."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from augmentations.base import Parameters
from augmentations.patches import PatchAugmentation, frame

# Of the Gaussian, in squared patch sides. Source: DSV.
VARIANCE = 0.1


@dataclass(frozen=True)
class CutDiff(PatchAugmentation):
    """Subtracts a Gaussian of height 1, image' = clamp(image - mask, 0, 1): differentiable in its ranges.

    mask = exp(-((u / width)^2 + (v / height)^2) / (2 * 0.1)) in the frame (u, v) of the patch, so its mass is
    2 pi 0.1 = 0.63 of the nominal area, part of it outside the patch. Sides are never rounded.
    Source: DSV; ST-SSAD for tuning by gradient.
    """

    name: ClassVar[str] = "cutdiff"
    family: ClassVar[str] = "cutdiff"

    @property
    def whole_pixels(self) -> bool:
        return False

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        along, across = frame(parameters, images.shape[-2:])
        along = along / parameters["width"][:, None, None]
        across = across / parameters["height"][:, None, None]
        mask = (-(along**2 + across**2) / (2 * VARIANCE)).exp()
        return (images - mask.unsqueeze(1)).clamp(0, 1)
