"""Random fields made on the images' device: white noise and Perlin noise, each a function of one seed per image.

A batch of fields is too large to be drawn beforehand, and a device's own generator gives other numbers on every
device. Here a value is a hash of the image's seed and of its place: the same on all devices and for any batch.
"""

import math

import torch
from torch import Tensor

from augmentations.randomness import noise

MANTISSA = 23  # bits of a float32 in (0, 1) whose distance to both ends is exact
SEEDS = 2**24  # distinct seeds: whole numbers that every float type here holds
WORD = 2**32 - 1


def draw_seeds(n: int, generator: torch.Generator) -> Tensor:
    """(n,) whole numbers, one for the field of each image."""
    return (noise(n, generator) * SEEDS).long()


def white(seeds: Tensor, shape: tuple[int, ...], dtype: torch.dtype, stream: int = 0) -> Tensor:
    """(N,*shape) uniform in (0, 1), for seeds (N,); another ``stream`` gives independent ones."""
    places = torch.arange(math.prod(shape), device=seeds.device).view(shape)
    return _uniform(_hashed(seeds.view(-1, *[1] * len(shape)), places, stream), dtype)


def white_gaussian(seeds: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """(N,*shape) of mean 0 and variance 1, for seeds (N,)."""
    return math.sqrt(2) * torch.erfinv(2 * white(seeds, shape, dtype) - 1)


def perlin(seeds: Tensor, cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Perlin noise (N,H,W), about -0.7 to 0.7: smooth, and 0 on average.

    Args:
        seeds: (N,).
        cells: (N,) how many cells of its lattice the shorter side of an image spans.
        size: (height, width) in pixels.
    Source: Perlin, 1985, with the fade of 2002; DRAEM (Zavrtanik et al., 2021) for its use as a mask.
    """
    step = (cells / min(size))[:, None]
    rows, columns = ((torch.arange(side, device=cells.device, dtype=cells.dtype) + 0.5) * step for side in size)
    y, x = rows[:, :, None], columns[:, None, :]
    top, left = y.floor(), x.floor()
    dy, dx = y - top, x - left
    corners = {}
    for down in (0, 1):
        for right in (0, 1):
            place = (top.long() + down) * 65_536 + left.long() + right
            angle = 2 * math.pi * _uniform(_hashed(seeds[:, None, None], place, 1), cells.dtype)
            corners[down, right] = angle.cos() * (dx - right) + angle.sin() * (dy - down)
    fade_y, fade_x = (t**3 * (t * (6 * t - 15) + 10) for t in (dy, dx))
    upper, lower = (torch.lerp(corners[down, 0], corners[down, 1], fade_x) for down in (0, 1))
    return torch.lerp(upper, lower, fade_y)


def share_above(field: Tensor, share: Tensor, points: int = 64) -> Tensor:
    """(N,1,1) the value that a ``share`` (N,) of each field (N,H,W) exceeds, from about ``points`` points per side."""
    strides = [max(1, side // points) for side in field.shape[1:]]
    values = field[:, :: strides[0], :: strides[1]].flatten(1).sort(1).values
    index = ((1 - share) * (values.shape[1] - 1)).floor().long().clamp(0, values.shape[1] - 1)
    return values.gather(1, index[:, None])[:, :, None]


def _hashed(seeds: Tensor, places: Tensor, stream: int) -> Tensor:
    mixed = _mixed(seeds + (stream + 1) * SEEDS)
    return _mixed(_mixed(places & WORD) ^ mixed)


def _mixed(words: Tensor) -> Tensor:
    """A hash of 32-bit words in int64 (Wellons' lowbias32)."""
    words = (words ^ (words >> 16)) * 0x7FEB352D & WORD
    words = (words ^ (words >> 15)) * 0x846CA68B & WORD
    return words ^ (words >> 16)


def _uniform(words: Tensor, dtype: torch.dtype) -> Tensor:
    return ((words >> (32 - MANTISSA)).to(dtype) + 0.5) / 2**MANTISSA
