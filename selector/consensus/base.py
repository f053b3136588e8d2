"""What a consensus is: one number for every candidate, from the test scores of all of them."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from augmentations.errors import InputError
from selector.consensus.correlation import Floats, Integers, dense_ranks, kendall_matrix, spearman_matrix


@dataclass(frozen=True, eq=False)
class ScoreMatrix:
    """Anomaly scores of all candidates on the same test images, and what consensus reads of them, computed once.

    Args:
        values: (k samples, m candidates) finite float64, higher = more anomalous; a column that contained nan or an
            infinity is 0 throughout, and a constant column correlates with no other.
        finite: (m,) which columns contained finite scores only.
        families: one hashable per candidate (its augmentation), or None where unknown.
        seed: of the random partners.
    """

    values: Floats
    finite: np.ndarray
    families: tuple[Hashable, ...] | None = None
    seed: int = 0

    @classmethod
    def of(cls, scores: Any, families: Sequence[Hashable] | None = None, seed: int = 0) -> "ScoreMatrix":
        """Scores (k, m), array or tensor of real numbers, read and left as they are; raises InputError otherwise."""
        values = as_matrix(scores)
        if not (isinstance(seed, int | np.integer) and -(2**63) <= seed < 2**64):
            raise InputError(f"seed={seed!r}", "must be an integer of 64 bits", "try 0")
        if families is not None:
            # Elements of a tensor hash by identity: each would be a family of its own.
            families = tuple(families.tolist() if isinstance(families, Tensor | np.ndarray) else families)
            if len(families) != values.shape[1]:
                raise InputError(
                    f"families of length {len(families)}",
                    f"the scores are those of {values.shape[1]} candidates",
                    "pass one family per candidate, in the order of the columns",
                )
            for family in families:
                if not isinstance(family, Hashable):
                    raise InputError(f"family {family!r}", "must be hashable", "pass a name or a number")
        finite = np.asarray(np.isfinite(values).all(axis=0))
        return cls(np.where(finite, values, 0.0), finite, families, int(seed))

    @cached_property
    def dense_ranks(self) -> Integers:
        """Ranks of the columns as Kendall's tau takes them, (m, k)."""
        return dense_ranks(self.values)

    @cached_property
    def kendall(self) -> Floats:
        """Tau-b between candidates, (m, m): nan counts 0, and so does a candidate's with itself."""
        return _off_diagonal(kendall_matrix(self.dense_ranks))

    @cached_property
    def spearman(self) -> Floats:
        """Spearman's rho between candidates, likewise."""
        return _off_diagonal(spearman_matrix(self.values))

    @cached_property
    def reciprocal_ranks(self) -> Floats:
        """W = 1 / rank, (k, m), where 1 is the most anomalous and ties share the mean of their ranks.

        A candidate with non-finite scores has no vote: its column is 0.
        """
        return np.where(self.finite, 1 / rankdata(-self.values, axis=0), 0.0)


@dataclass(frozen=True)
class Consensus:
    """A pure function of all candidates' test scores, higher is better, with what a report must know about it.

    Args:
        name: the name of its column, and of a built-in one the key in ``CONSENSUS``.
        source: the paper.
        needs_families: whether candidates must be grouped into families.
        compute: score matrix -> (m,); degenerate scores never raise.
        description: one sentence for a reader who sees the name in a report.
    """

    name: str
    source: str
    needs_families: bool
    compute: Callable[[ScoreMatrix], Floats]
    description: str

    def supported_by(self, matrix: ScoreMatrix) -> bool:
        """Whether the matrix has all that this consensus needs."""
        return matrix.families is not None or not self.needs_families

    def require(self, matrix: ScoreMatrix) -> None:
        """Raise InputError where the matrix cannot support this consensus."""
        if not self.supported_by(matrix):
            raise InputError(
                f"consensus {self.name!r}",
                "needs the family of every candidate",
                "pass families=, for instance the names of their augmentations",
            )


def as_matrix(scores: Any, fewest: int = 2) -> Floats:
    """Scores (k samples, m candidates), array or tensor of real numbers, at least ``fewest`` of each, as float64.

    Raises InputError for anything else.
    """
    remedy = "pass one row per test image and one column per candidate"
    if isinstance(scores, Tensor):
        scores = scores.detach().cpu()
        scores = scores if scores.is_complex() else scores.to(torch.float64)
    try:
        array = np.asarray(scores)
    except ValueError:  # rows of different length
        raise InputError("scores", "must be a matrix", remedy) from None
    if array.dtype.kind not in "buif":
        raise InputError(f"scores of type {array.dtype}", "must be real numbers", remedy)
    if array.ndim != 2 or min(array.shape) < fewest:
        rule = f"must be (samples, candidates), at least {fewest} of each"
        raise InputError(f"scores of shape {array.shape}", rule, remedy)
    return array.astype(np.float64)


def _off_diagonal(matrix: Floats) -> Floats:
    matrix = np.nan_to_num(matrix, nan=0.0)
    np.fill_diagonal(matrix, 0)
    return matrix
