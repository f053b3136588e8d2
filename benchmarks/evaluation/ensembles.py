"""Several candidates' scores as one, and the AUROC of such ensembles."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from detectors.ensemble import combine_normalized, normalizations
from selector.consensus.base import as_matrix
from selector.criteria import probability_above

DRAWS = 50  # of members at random: their mean AUROC is then known to .005 and better on the stored zoos


def rank_average(scores: Any) -> Tensor:
    """The mean over candidates of the share of images that score lower, ties counting half.

    Args:
        scores: (k,m), array or tensor, of m candidates on the same k images.

    Returns:
        (k,) float64 in [0,1]; all nan where a score is not finite.

    Raises:
        InputError: for scores that are not such a matrix.
    """
    values = as_matrix(scores, fewest=1)
    shares = (rankdata(values, axis=0) - 0.5) / len(values)
    return torch.from_numpy(shares.mean(axis=1) if np.isfinite(values).all() else np.full(len(values), np.nan))


@dataclass(frozen=True, eq=False)
class Ensembles:
    """The AUROC of ensembles of a zoo's candidates on one task.

    Args:
        scores: by candidate, the scores (k,) of the task's test images.
        validation: by candidate, the scores of normal validation images.
        distances: the candidates whose scores are distances.
        kinds: by candidate, what its scores are (``Candidate.kind_of_scores``).
        labels: (k,), 1 = anomalous.
    """

    scores: Mapping[str, Tensor]
    validation: Mapping[str, Tensor]
    distances: frozenset[str]
    kinds: Mapping[str, str]
    labels: Tensor

    def normalized(self, members: Iterable[str], combine: str | None = None) -> float:
        """The AUROC of the members as ``detectors.Ensemble`` scores."""
        chosen = list(members)
        are_distances, kinds = [i in self.distances for i in chosen], [self.kinds[i] for i in chosen]
        units = normalizations([self.validation[i] for i in chosen], are_distances, kinds)
        return self._auroc(combine_normalized([self.scores[i] for i in chosen], units, combine))

    def mean_rank(self, members: Iterable[str]) -> float:
        """The AUROC of the members' mean rank of an image, which depends on all test images."""
        return self._auroc(rank_average(torch.stack([self.scores[i] for i in members], 1)))

    def random_members(self, count: int, source: torch.Generator) -> float:
        """The mean AUROC of ensembles of members at random, over DRAWS, each combined as the recommended ensemble is.

        Args:
            count: how many members; all candidates where there are fewer.
            source: of the draws. Of two counts, one draw's smaller ensemble is a part of its larger one.
        """
        names = list(self.scores)
        orders = [torch.randperm(len(names), generator=source)[:count] for _ in range(DRAWS)]
        return float(np.mean([self.normalized(names[place] for place in order) for order in orders]))

    def _auroc(self, scores: Tensor) -> float:
        return probability_above(scores[self.labels == 0], scores[self.labels == 1]).item()
