"""The area under the ROC curve: the one implementation, for any number of candidates or resamples at once."""

import math

import torch
from torch import Tensor

from selector.evidence.pairwise import to_float64


def probability_above(low: Tensor, high: Tensor) -> Tensor:
    """P(h > l) + P(h = l) / 2 over all pairs of low and high scores: the AUROC of high against low.

    Exact, in O((n + m) log n), and not differentiable: it counts (a Mann-Whitney U, divided by n m).

    Args:
        low: (..., n) scores.
        high: (..., m) scores, with the same leading dimensions.

    Returns:
        (...), float64; nan where a score is nan.
    """
    low, high = to_float64(low).sort(-1).values.contiguous(), to_float64(high).contiguous()
    below = torch.searchsorted(low, high, right=False)
    not_above = torch.searchsorted(low, high, right=True)
    value = (below + not_above).to(low.dtype).mean(-1) / (2 * low.shape[-1])
    return torch.where(low[..., -1].isnan() | high.isnan().any(-1), math.nan, value)
