"""Explicit randomness: generators made of a seed and a purpose, and draws from ranges of hyperparameters.

A draw is a smooth function of noise and the ends of its range, so that gradients reach the ends.
"""

import hashlib

import torch
from torch import Tensor

from augmentations.hyperparameters import Number, Range


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator whose stream depends on ``seed`` and ``purpose`` only.

    Distinct purposes give independent streams, so that drawing more of one thing never shifts another.
    """
    digest = hashlib.sha256(repr((seed, *map(str, purpose))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def uniform(value: Range, n: int, generator: torch.Generator) -> Tensor:
    """(n,) float64 draws, uniform between the ends."""
    low, high = map(_double, value)
    return low + (high - low) * noise(n, generator)


def log_uniform(value: Range, n: int, generator: torch.Generator) -> Tensor:
    """(n,) float64 draws whose logarithm is uniform: x and 1/x are equally likely in (1/a, a)."""
    low, high = (_double(end).log() for end in value)
    return (low + (high - low) * noise(n, generator)).exp()


def noise(n: int, generator: torch.Generator) -> Tensor:
    """(n,) float64, uniform in [0, 1): in float32 a draw may round to 1 further down the line."""
    return torch.rand(n, generator=generator, dtype=torch.float64)


def _double(end: Number) -> Tensor:
    if isinstance(end, Tensor):
        return end.to("cpu", torch.float64)
    return torch.tensor(end, dtype=torch.float64)
