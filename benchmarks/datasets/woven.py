"""Cloth drawn thread by thread, with an exact and seeded generator: a plain weave, and a twill, which is the fault.

Each thread passes over and under those that cross it in turn; in the twill it passes over one and under two, so that
the same threads make diagonals. Threads are shaded as cylinders; the cloth is shifted, turned and stretched at random.
"""

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from augmentations.randomness import generator
from benchmarks.datasets.resampled import SIDE, assemble, refuse_root, uniform
from benchmarks.tasks.task import SPLIT_SEED, Loader, Task

N_TRAIN, N_TEST = 300, 150  # images; normal ones, and as many of each kind of anomaly
THREAD = (5.6, 6.4)  # px, the width of a thread
TURN = (-4.0, 4.0)  # degrees
STRETCH, KNOTS = 0.8, 4  # px that places of the cloth are off, drawn at so many knots along a side
LAMP = (0.85, 1.1)  # times the brightness
NOISE = 0.12  # standard deviation
PLAIN, TWILL = 2, 3  # threads after which the pattern repeats


def load(name: str, root: str | Path | None, image_size: int) -> Task:
    """Plain weave, against twill. Raises InputError for a root."""
    refuse_root(name, root, "is drawn, not read")
    train, normal, twill = (
        _cloth(n, repeat, generator(SPLIT_SEED, "benchmarks", name, part))
        for part, n, repeat in (("train", N_TRAIN, PLAIN), ("normal", N_TEST, PLAIN), ("twill", N_TEST, TWILL))
    )
    return assemble(name, image_size, train, normal, {"twill": twill})


LOADERS: dict[str, Loader] = {"woven": load}


def _cloth(n: int, repeat: int, source: torch.Generator) -> Tensor:
    """(n,1,SIDE,SIDE) in [0,1]."""
    thread = uniform(*THREAD, (n, 1, 1), source)
    turn = uniform(*TURN, (n, 1, 1), source) * math.pi / 180
    stretch = STRETCH * torch.randn(n, 2, KNOTS, KNOTS, generator=source)
    off = functional.interpolate(stretch, (SIDE, SIDE), mode="bicubic", align_corners=True)
    off = off + uniform(0, 2 * PLAIN * TWILL * THREAD[1], (n, 2, 1, 1), source)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    along = (turn.cos() * x - turn.sin() * y + off[:, 0]) / thread
    across = (turn.sin() * x + turn.cos() * y + off[:, 1]) / thread
    is_over = (along.floor() + across.floor()) % repeat == 0
    warp, weft = (torch.sin(math.pi * (place % 1)) for place in (along, across))
    shade = torch.where(is_over, warp * (0.75 + 0.25 * weft), weft * (0.6 + 0.25 * warp))
    cloth = 0.25 + 0.5 * shade + NOISE * torch.randn(shade.shape, generator=source)
    return (cloth * uniform(*LAMP, (n, 1, 1), source))[:, None].clamp(0, 1)
