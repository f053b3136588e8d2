"""Several candidates' scores as one."""

from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from selector.consensus.base import as_matrix

MEMBERS = 8  # of an ensemble: with fewer it lost more on `development` where 5% of the images are anomalous


def rank_average(scores: Any) -> Tensor:
    """The mean over candidates (m) of the shares of images that score below, ties counting half: scores (k,m) of the
    same images, array or tensor, to (k,) float64 in [0,1]; all nan where a score is not finite.

    Raises InputError for scores that are not such a matrix.
    """
    values = as_matrix(scores, fewest=1)
    shares = (rankdata(values, axis=0) - 0.5) / len(values)
    return torch.from_numpy(shares.mean(axis=1) if np.isfinite(values).all() else np.full(len(values), np.nan))
