"""Consensus by similarity: a good candidate orders the test images as the others do.

A similarity that is nan, because a candidate's scores are constant or not finite, counts 0.
"""

import math

import numpy as np
import torch

from selector.consensus.base import Consensus, ScoreMatrix
from selector.consensus.correlation import Floats

CENTRALITY = "Lin, Thekumparampil, Fanti & Oh, InfoGAN-CR and ModelCentrality, ICML 2020"
SAMPLED = "Ma, Zhao, Zhang & Akoglu, SIGKDD Explorations 2023"
UDR = "Duan et al., Unsupervised Disentanglement Ranking, ICLR 2020"


def mc(matrix: ScoreMatrix) -> Floats:
    """Model centrality: mean tau-b to the other candidates, (m,). Source: ModelCentrality."""
    return _mean_of_others(matrix.kendall)


def mc_spearman(matrix: ScoreMatrix) -> Floats:
    """Model centrality with Spearman's rho, (m,). Source: ModelCentrality."""
    return _mean_of_others(matrix.spearman)


def mcs(matrix: ScoreMatrix) -> Floats:
    """Median tau-b to round(sqrt m) random other candidates, (m,). Source: Ma et al. 2023.

    Partners follow from the seed and the places of candidates among the columns: keep their order to keep them.
    """
    count = matrix.values.shape[1]
    return _median_of_partners(matrix, ~np.eye(count, dtype=bool))


def udr(matrix: ScoreMatrix) -> Floats:
    """Median tau-b to round(sqrt m) random others of the own family, all where fewer, (m,); 0 where none.

    m counts the candidates of all families; partners are drawn as in mcs. Source: Duan et al. 2020.
    """
    assert matrix.families is not None
    numbers = {family: number for number, family in enumerate(dict.fromkeys(matrix.families))}
    family = np.array([numbers[name] for name in matrix.families])
    return _median_of_partners(matrix, (family == family[:, None]) & ~np.eye(len(family), dtype=bool))


def _mean_of_others(similarity: Floats) -> Floats:
    return similarity.sum(axis=1) / (len(similarity) - 1)


def _median_of_partners(matrix: ScoreMatrix, eligible: np.ndarray) -> Floats:
    """Median similarity of each candidate to its partners, the eligible ones (m, m) of lowest random number."""
    count = len(eligible)
    generator = torch.Generator().manual_seed(matrix.seed)
    numbers = torch.rand(count, count, generator=generator, dtype=torch.float64).numpy()
    order = np.argsort(np.where(eligible, numbers, np.inf), axis=1, kind="stable")
    sizes = np.minimum(round(math.sqrt(count)), eligible.sum(axis=1))
    chosen = (row[partners[:size]] for row, partners, size in zip(matrix.kendall, order, sizes, strict=True))
    return np.array([np.median(values) if len(values) else 0.0 for values in chosen])


CONSENSUS = (
    Consensus(
        "mc", CENTRALITY, False, mc,
        "Mean rank agreement (Kendall) of a candidate's test scores with those of all others.",
    ),
    Consensus(
        "mc_spearman", CENTRALITY, False, mc_spearman,
        "Mean rank agreement (Spearman) of a candidate's test scores with those of all others.",
    ),
    Consensus(
        "mcs", SAMPLED, False, mcs,
        "Median rank agreement (Kendall) of a candidate's test scores with those of a few random others.",
    ),
    Consensus(
        "udr", UDR, True, udr,
        "Median rank agreement (Kendall) of a candidate's test scores with those of a few others of its family.",
    ),
)  # fmt: skip
