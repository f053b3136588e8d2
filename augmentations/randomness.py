"""Explicit randomness: a seed and a purpose in, a CPU generator out."""

import hashlib

import torch


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator whose stream depends on ``seed`` and ``purpose`` only.

    Distinct purposes give independent streams, so that drawing more of one thing never shifts another.
    """
    digest = hashlib.sha256(repr((seed, *map(str, purpose))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
