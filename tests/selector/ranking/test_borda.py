"""Borda counts of many selections at once."""

import numpy as np
import pandas as pd

from selector.ranking.borda import borda, borda_points


def test_points_are_those_of_each_selection_alone():
    source = np.random.default_rng(0)
    values = source.integers(0, 4, (3, 2, 9)).astype(float)  # selections, criteria, candidates, with ties
    values[0, 1, 2] = np.nan
    points = borda_points(values).sum(1)
    for of_selection, expected in zip(values, points, strict=True):
        shares = borda(pd.DataFrame(of_selection.T, columns=["a", "b"]), {"a": True, "b": True})
        np.testing.assert_allclose(shares * 2 * 2 * 8, expected)
