"""Consensus: one number for every candidate from the test scores of all of them, without labels.

``similarity``: rank agreement with the others (MC, MCS, UDR). ``trust``: votes for anomalies (HITS, SELECT).
``correlation``: the rank correlations they share. Higher is better throughout.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from augmentations.errors import InputError, unknown_name
from selector.consensus import similarity, trust
from selector.consensus.base import Consensus, ScoreMatrix

__all__ = ["CONSENSUS", "Consensus", "evaluate", "get", "names"]

CONSENSUS: dict[str, Consensus] = {c.name: c for c in (*similarity.CONSENSUS, *trust.CONSENSUS)}
DECIMALS = 12  # candidates that are equal but for rounding tie, so that the first of them can win


def names() -> list[str]:
    """The names of all consensus functions, in table order."""
    return list(CONSENSUS)


def get(name: str) -> Consensus:
    """The consensus of this name; raises InputError, with the nearest names, where there is none."""
    if not isinstance(name, str) or name not in CONSENSUS:
        raise unknown_name("consensus", name, names())
    return CONSENSUS[name]


def evaluate(
    scores: Any,
    names: Sequence[str | Consensus] | None = None,
    *,
    families: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """The values of consensus functions for every candidate.

    A candidate whose column contains nan or an infinity is not refused: like a constant one it agrees with no other
    (similarity 0, in ``select`` -1), and it has no vote in ``hits``, where its value is 0.

    Args:
        scores: (k samples, m candidates), at least 2 of each, array or tensor of real numbers, higher = more anomalous,
            the same images in every column.
        names: of built-in consensus functions (``selector.consensus.names()``), or Consensus objects; None: all
            built-in ones that the input supports.
        families: one hashable per candidate, such as the name of its augmentation; without, ``udr`` is left out.
        seed: of the random partners of ``mcs`` and ``udr``.

    Returns:
        The values (m,), float64, of each by its name, in the order of ``names``.

    Raises:
        InputError: before computing anything, scores or families of another shape or type, an unknown name, two
            functions of one name, or one that needs families where there are none.

    Example:
        >>> scores = [[0.1, 0.2, 0.9], [0.2, 0.1, 0.8], [0.3, 0.4, 0.1]]
        >>> int(evaluate(scores, ["mc"])["mc"].argmin())
        2
    """
    matrix = ScoreMatrix.of(scores, families, seed)
    if names is None:
        chosen = [consensus for consensus in CONSENSUS.values() if consensus.supported_by(matrix)]
    else:
        chosen = [name if isinstance(name, Consensus) else get(name) for name in names]
        for consensus in chosen:
            consensus.require(matrix)
        if len({id(consensus) for consensus in chosen}) > len({consensus.name for consensus in chosen}):
            raise InputError("names", "hold two consensus functions of one name", "rename one of them")
    return {c.name: torch.from_numpy(np.round(c.compute(matrix), DECIMALS)) for c in chosen}
