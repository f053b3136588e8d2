"""Several candidates' scores as one."""

import torch
from torch import Tensor

MEMBERS = 5  # of an ensemble: the best few


def rank_average(scores: Tensor) -> Tensor:
    """The mean over candidates (m) of the shares of images that score below, ties counting half: scores (k,m) of the
    same images to (k,), in [0,1]."""
    shares = []
    for column in scores.double().T.contiguous():
        ordered = column.sort().values
        below = torch.searchsorted(ordered, column, right=False) + torch.searchsorted(ordered, column, right=True)
        shares.append(below / (2 * len(column)))
    return torch.stack(shares).mean(0)
