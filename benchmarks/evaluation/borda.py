"""The Borda count of many selections at once."""

import numpy as np


def borda_points(values: np.ndarray) -> np.ndarray:
    """Points whose sum over criteria orders candidates as ``selector.ranking.rules.borda`` does, for many selections.

    Args:
        values: (...,m) of m candidates, higher = better; nan beats no candidate.

    Returns:
        (...,m) whole numbers: twice the number of candidates that each one beats, a tie counting half.
    """
    own, other = values[..., :, None], values[..., None, :]
    return 2 * (own > other).sum(-1) + (own == other).sum(-1) - ~np.isnan(values)
