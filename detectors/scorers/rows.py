"""Rows of features: what is refused, how many are kept, and how many are scored at once."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from augmentations import InputError

# Rows whose spread is below this share of their length differ by float32 rounding only.
ROUNDING = 16 * torch.finfo(torch.float32).eps
BLOCK = 2**24  # pairs of a row and a remembered one that are compared at once: 64 MB of float32


def checked(rows: Tensor, least: int, scorer: str) -> Tensor:
    """A detached copy of ``rows`` (n,d) in float32.

    Raises:
        InputError: for rows that are not finite, that are fewer than ``least``, or that are all the same.
    """
    values = rows.detach().to(torch.float32, copy=True)
    if not values.isfinite().all():
        raise InputError("features", "must be finite", "train with a smaller learning rate")
    if len(values) < least:
        thing = f"{len(values)} rows of features"
        raise InputError(thing, f"are too few for scorer {scorer!r}, which needs {least}", "give more images")
    if (values - values.mean(0)).double().norm() <= ROUNDING * values.double().norm():
        remedy = "give images that differ, or another augmentation: the encoder may have learned nothing"
        raise InputError(f"the features of {len(values)} locations or images", "are all the same", remedy)
    return values


def unit(rows: Tensor) -> Tensor:
    """Rows (...,d) of length 1; those of length 0, and single numbers, which have no direction, as they are."""
    return rows if rows.shape[-1] == 1 else nn.functional.normalize(rows, dim=-1)


def squared_distances(rows: Tensor, known: Tensor) -> Tensor:
    """(n,m) squared distances of rows (n,d) to known ones (m,d)."""
    squares = rows.square().sum(1, keepdim=True) + known.square().sum(1)
    return (squares - 2 * rows @ known.mT).clamp(min=0)


def subset(rows: Tensor, limit: int) -> Tensor:
    """At most ``limit`` of the rows (n,d), drawn without replacement, in their order; always the same ones."""
    if len(rows) <= limit:
        return rows
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:limit]
    return rows[chosen.sort().values.to(rows.device)]


def in_blocks(score: Callable[[Tensor], Tensor], rows: Tensor, remembered: int) -> Tensor:
    """``score`` of rows (...,d), as (...), so few of them at once that memory is bounded.

    An exported program, which is made for any number of rows, scores all of them at once.

    Args:
        score: (n,d) to (n,).
        rows: of any leading shape.
        remembered: how many rows each one is compared to.
    """
    flat = rows.reshape(-1, rows.shape[-1])
    if torch.compiler.is_compiling():
        return score(flat).reshape(rows.shape[:-1])
    parts = flat.split(max(1, BLOCK // remembered))
    return torch.cat([score(part) for part in parts]).reshape(rows.shape[:-1])
