"""Another image of the same batch, from which an anomaly takes what it shows."""

import torch
from torch import Tensor

from augmentations.base import Parameters
from augmentations.randomness import noise


def draw_partner(n: int, generator: torch.Generator) -> Parameters:
    """``partner`` (n,) in [0, 1): which other image of its batch each image gets."""
    return {"partner": noise(n, generator)}


def partners(images: Tensor, partner: Tensor) -> Tensor:
    """For each of the images (N,C,H,W) another one of them; an image that is alone gets itself."""
    n = len(images)
    places = torch.arange(n, device=images.device)
    shift = 1 + (partner * (n - 1)).floor().long().clamp(0, max(n - 2, 0))
    return images.index_select(0, (places + shift).remainder(max(n, 1)))
