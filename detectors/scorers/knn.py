"""Nearest neighbours in a memory of normal rows as a one-class scorer."""

from typing import Any, Self

import torch
from torch import Tensor

from augmentations import InputError
from augmentations.errors import whole_number
from detectors.scorers.base import Scorer
from detectors.scorers.coreset import coreset
from detectors.scorers.rows import checked, in_blocks, unit

DISTANCES = COSINE, EUCLIDEAN = "cosine", "euclidean"
MEMORY = 4_000  # rows that are remembered, unless said otherwise


class NearestNeighbours(Scorer):
    """The distance to the k nearest rows of a memory of normal ones.

    Settings:
        k: how many.
        average: whether the score is their mean distance, or that of the k-th.
        distance: "cosine", 1 - cos of the angle between two rows, or "euclidean".
        memory: how many rows are remembered: a share, such as 0.1, or a number at most, such as 4000. Where that is
            fewer than there are, the memory is a ``coreset`` of them.

    Source: Bergman et al., 2020 (deep nearest neighbours); Roth et al., CVPR 2022 (PatchCore) for the memory;
    Sohn et al., ICLR 2021, for k = 1 and the cosine.
    """

    name = "knn"
    score_is_distance = True

    memory: Tensor
    centre: Tensor
    least: Tensor  # squared distance that is no more than rounding: a remembered row is that far from itself

    def __init__(self, k: int = 3, average: bool = True, distance: str = COSINE, memory: float | int = MEMORY) -> None:
        whole_number("k", k, 1, "try 3")
        if not isinstance(average, bool):
            raise InputError(f"average={average!r}", "must be True or False", "try True")
        if distance not in DISTANCES:
            raise InputError(f"distance={distance!r}", f"must be {' or '.join(DISTANCES)}", f"try {COSINE!r}")
        size = _checked_memory(memory)
        if size > 1 and size < k:
            raise InputError(f"memory={memory!r}", f"must be at least k={k}", f"try {max(k, MEMORY)}")
        super().__init__(k=k, average=average, distance=distance, memory=size)

    def fit(self, rows: Tensor) -> Self:
        k, share = self.settings["k"], self.settings["memory"]
        values = checked(rows, max(2, k), self.name)
        if self.settings["distance"] == COSINE:
            values = checked(unit(values), 2, self.name)  # rows may differ in length alone
        size = round(share * len(values)) if share <= 1 else min(share, len(values))
        if size < k:
            rule = f"leaves {size} of {len(values)} rows, fewer than k={k}"
            raise InputError(f"memory={share!r}", rule, "give a larger share, or more images")
        memory = values if size == len(values) else values[coreset(values, size)]
        # Distances are found from products, which lose digits where rows are far from 0.
        centre = memory.mean(0)
        least = torch.finfo(torch.float32).eps * (memory - centre).square().sum(1).mean()
        return self.remember(memory=memory - centre, centre=centre, least=least)

    def forward(self, rows: Tensor) -> Tensor:
        return in_blocks(self._score, rows, len(self.memory))

    def _score(self, rows: Tensor) -> Tensor:
        is_cosine = self.settings["distance"] == COSINE
        rows = (unit(rows) if is_cosine else rows) - self.centre
        closeness = 2 * rows @ self.memory.mT - self.memory.square().sum(1)
        nearest = self.memory[closeness.topk(self.settings["k"]).indices]
        # From differences, as products would round a small distance away. Half the square of it is 1 - cos.
        difference = rows[:, None] - nearest
        squares = difference.square().sum(2).maximum(self.least)
        distances = squares / 2 if is_cosine else squares.sqrt()
        return distances.mean(1) if self.settings["average"] else distances.amax(1)


def _checked_memory(memory: Any) -> float | int:
    """A share as a float, a number of rows as an int."""
    is_number = isinstance(memory, int | float) and not isinstance(memory, bool)
    if is_number and 0 < memory <= 1:
        return float(memory)
    if is_number and memory > 1 and float(memory).is_integer():
        return int(memory)
    raise InputError(f"memory={memory!r}", "must be a share in (0, 1] or a number of rows", f"try 0.1 or {MEMORY}")
