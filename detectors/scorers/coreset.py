"""A coreset: few rows that have one near each of many."""

import torch
from torch import Tensor

PROJECTED = 64  # values of a projected row: distances are kept within about 1 / sqrt(2 * 64) = 9% of themselves


def coreset(rows: Tensor, size: int) -> Tensor:
    """Which ``size`` of the rows (n,d) cover them all: each further one is the row farthest from those before it.

    The first is the row nearest to the mean. Rows of more than ``PROJECTED`` values are projected to as many random
    directions, always the same ones. Without projection this is the exhaustive greedy search, within twice the least
    possible radius (Gonzalez, 1985); with it, that of PatchCore (Roth et al., CVPR 2022).

    Returns:
        (size,) whole numbers, on the device of ``rows``, in the order in which they were chosen.
    """
    points = rows.detach().float() - rows.detach().float().mean(0)
    if points.shape[1] > PROJECTED:
        directions = torch.randn(points.shape[1], PROJECTED, generator=torch.Generator().manual_seed(0))
        points = points @ (directions / PROJECTED**0.5).to(points.device)
    squares = points.square().sum(1)
    chosen = torch.empty(size, dtype=torch.long, device=rows.device)
    nearest = torch.full_like(squares, torch.inf)  # squared distance to the nearest chosen row
    last = squares.argmin()
    for i in range(size):
        chosen[i] = last
        row = points.index_select(0, last.view(1))
        distances = torch.addmv(squares + row.square().sum(), points, row[0], alpha=-2)
        nearest = torch.minimum(nearest, distances)
        nearest.index_fill_(0, last.view(1), -torch.inf)  # none is chosen twice, duplicates included
        last = nearest.argmax()
    return chosen
