"""What ensembles of a zoo's candidates are worth."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.evaluation.rank_average import rank_average
from detectors.ensemble import highest
from selector.criteria import probability_above


@dataclass(frozen=True, eq=False)
class Pool:
    """By candidate, the scores (k,) of a task's test images and its mean score of validation images; labels (k,)."""

    scores: Mapping[str, Tensor]
    normal: Mapping[str, float]
    labels: Tensor

    def highest(self, members: Iterable[str]) -> float:
        """The AUROC of the members as ``detectors.Ensemble`` scores."""
        chosen = list(members)
        return self._auroc(highest([self.scores[i] for i in chosen], [self.normal[i] for i in chosen]))

    def ranks(self, members: Iterable[str]) -> float:
        """The AUROC of the mean of the members' ranks of an image: unlike ``highest``, of the images together."""
        return self._auroc(rank_average(torch.stack([self.scores[i] for i in members], 1)))

    def _auroc(self, scores: Tensor) -> float:
        return probability_above(scores[self.labels == 0], scores[self.labels == 1]).item()
