"""Images resampled from others at random zooms, turns and places, and the tasks that are made of them.

Normal images and anomalies are resampled alike, so that what tells them apart is what they show.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.tasks.task import SPLIT_SEED, Task
from selector.inputs import reader

SIDE = 32  # px of a resampled image
SAMPLES = 2  # along the side of each of its pixels, whose mean it is: finer structure than it can show does not alias


def resample(sources: Tensor, centres: Tensor, zoom: Tensor, turn: Tensor) -> Tensor:
    """One square image of each source, by bicubic interpolation; beyond the edges of a source all is black.

    Args:
        sources: (n,1,H,W) in [0,1].
        centres: (n,2) row and column, in px of the source, of what the middle of the image shows; 0 is the middle of
            the first pixel.
        zoom: (n,) px of the source for each px of the image.
        turn: (n,) degrees.

    Returns:
        Images (n,1,SIDE,SIDE) in [0,1].
    """
    height, width = sources.shape[2:]
    steps = (torch.arange(SIDE * SAMPLES) + 0.5) / SAMPLES - SIDE / 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    sine, cosine = (f(torch.deg2rad(turn))[:, None, None] for f in (torch.sin, torch.cos))
    rows = centres[:, 0, None, None] + zoom[:, None, None] * (sine * x + cosine * y)
    columns = centres[:, 1, None, None] + zoom[:, None, None] * (cosine * x - sine * y)
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1)
    samples = functional.grid_sample(sources, grid.to(sources.dtype), mode="bicubic", align_corners=False)
    return functional.avg_pool2d(samples, SAMPLES).clamp(0, 1)


def uniform(low: float, high: float, shape: int | tuple[int, ...], source: torch.Generator) -> Tensor:
    """Draws of this shape, uniform between the ends."""
    return low + (high - low) * torch.rand(shape, generator=source)


def refuse_root(name: str, root: str | Path | None, comes_from: str) -> None:
    """Raise InputError for a root where the data come with a package."""
    if root is not None:
        raise InputError(f"root={str(root)!r}", f"{name} {comes_from}", "leave root out")


def assemble(name: str, image_size: int, train: Tensor, normal: Tensor, anomalies: Mapping[str, Tensor]) -> Task:
    """A task of images (n,1,S,S) in [0,1] in 256 gray levels, test images in random order.

    Args:
        name: of the task.
        image_size: side of its images, px.
        train: normal images to train on.
        normal: those to test on.
        anomalies: those to test on, by kind.
    """
    kinds = [""] * len(normal) + [kind for kind, images in anomalies.items() for _ in images]
    train, test = (
        reader.read_images((255 * images).round().to(torch.uint8), image_size=image_size, role=name).pixels
        for images in (train, torch.cat([normal, *anomalies.values()]))
    )
    whole = Task(name, train, test, torch.tensor([kind != "" for kind in kinds]).to(torch.uint8), kinds=tuple(kinds))
    return whole.with_test(torch.randperm(len(kinds), generator=generator(SPLIT_SEED, "benchmarks", name, "order")))
