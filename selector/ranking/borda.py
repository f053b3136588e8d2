"""The Borda count: how many of the others a candidate beats, over several criteria."""

from collections.abc import Mapping

import numpy as np
import pandas as pd


def borda(
    values: pd.DataFrame,
    higher_is_better: Mapping[str, bool],
    reference: pd.DataFrame | None = None,
    votes: Mapping[str, int] | None = None,
) -> pd.Series:
    """The Borda share of each row: the mean over votes of the share of other rows beaten, a tie counting half.

    Args:
        values: one row per candidate, with a column for every key of ``higher_is_better``; nan beats nothing.
        higher_is_better: the columns that count, and their direction.
        reference: the rows to compare with; a row is not compared with the one of its own index. None: ``values``.
        votes: how many votes a column has; one where it is not named.

    Returns:
        The shares, in [0, 1].
    """
    reference = values if reference is None else reference
    is_other = values.index.to_numpy()[:, None] != reference.index.to_numpy()
    names = list(higher_is_better)
    signs = np.array([1 if higher_is_better[name] else -1 for name in names])
    rows, columns = ((table[names].to_numpy(float) * signs).T for table in (values, reference))
    # Points are whole numbers: equal shares are equal, and their tie is broken as ``best_first`` says.
    each = np.array([(votes or {}).get(name, 1) for name in names])
    points = each @ borda_points(rows, columns, is_other)
    return pd.Series(points / (2 * each.sum() * np.maximum(is_other.sum(1), 1)), values.index)


def borda_points(
    values: np.ndarray, reference: np.ndarray | None = None, is_other: np.ndarray | None = None
) -> np.ndarray:
    """The points of candidates for one criterion, of any number of selections at once.

    Args:
        values: (...,m) of m candidates, higher = better; nan beats nothing.
        reference: (...,r) of the candidates to compare with; None: ``values``.
        is_other: (m,r) whether to compare; None: with all but oneself.

    Returns:
        (...,m) whole numbers: twice the number of candidates that each one beats, a tie counting half.
    """
    reference = values if reference is None else reference
    own, other = values[..., :, None], reference[..., None, :]
    compared = ~np.eye(values.shape[-1], dtype=bool) if is_other is None else is_other
    return ((2 * (own > other) + (own == other)) * compared).sum(-1)
