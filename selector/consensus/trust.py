"""Consensus by trust: candidates vote for anomalies with 1 / rank, and are worth what their votes are."""

import numpy as np

from selector.consensus.base import Consensus, ScoreMatrix
from selector.consensus.correlation import Floats, dense_ranks, kendall

HITS = "Ma, Zhao, Zhang & Akoglu, SIGKDD Explorations 2023; Kleinberg, JACM 1999"
SELECT = "Rayana & Akoglu, Less is More, TKDD 2016; as in Ma, Zhao, Zhang & Akoglu, SIGKDD Explorations 2023"
SETTLED_BITS = 40  # of 53: sums that are equal but for the order of their terms become equal
ROUNDING = 1e-12  # far above that of a mean of taus, far below a difference between two


def hits(matrix: ScoreMatrix) -> Floats:
    """Trust in each candidate: leading right singular vector of W = 1 / rank, (m,), of length 1, at least 0.

    0 for a candidate with non-finite scores. Source: HITS of Ma et al. 2023.
    """
    votes = matrix.reciprocal_ranks
    hubs = np.abs(np.linalg.eigh(votes.T @ votes).eigenvectors[:, -1])  # Perron: all of one sign
    return np.where(matrix.finite, hubs, 0.0)


def select(matrix: ScoreMatrix) -> Floats:
    """Tau-b of each candidate with the target of a greedily selected ensemble, (m,); -1 where undefined.

    The first taken agrees best with the mean of all W = 1 / rank, each further one with the mean of the taken,
    while its tau is at least the mean tau of the taken when they were taken. Source: SELECT of Ma et al. 2023.
    """
    votes, ranks = matrix.reciprocal_ranks, matrix.dense_ranks

    def agreement(ensemble: Floats, candidates: list[int]) -> Floats:
        taus = kendall(dense_ranks(_settled(ensemble)[:, None])[0], ranks[candidates])
        return np.nan_to_num(taus, nan=-1.0)

    everyone = list(range(len(ranks)))
    remaining = everyone.copy()
    taus = agreement(votes.sum(axis=1), remaining)  # as the mean would: tau knows no scale
    target = np.zeros(len(votes))
    accepted: list[float] = []
    while True:
        best = int(taus.argmax())  # the first where several are
        if accepted and taus[best] < np.mean(accepted) - ROUNDING:
            break
        accepted.append(float(taus[best]))
        target = target + votes[:, remaining.pop(best)]
        if not remaining:
            break
        taus = agreement(target, remaining)
    return agreement(target, everyone)


def _settled(values: Floats) -> Floats:
    """Values less the digits in which sums differ by the order of their terms, so that equal sums tie."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(mantissa, SETTLED_BITS)), exponent - SETTLED_BITS)


CONSENSUS = (
    Consensus(
        "hits", HITS, False, hits,
        "Trust in a candidate whose most anomalous test images are those of the other trusted candidates.",
    ),
    Consensus(
        "select", SELECT, False, select,
        "Rank agreement (Kendall) of a candidate's test scores with those of an ensemble of like-minded candidates.",
    ),
)  # fmt: skip
