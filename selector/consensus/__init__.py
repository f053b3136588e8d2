"""Consensus: one number for every candidate from the test scores of all of them, without labels.

``similarity``: rank agreement with the others (MC, MCS, UDR). ``trust``: votes for anomalies (HITS, SELECT).
``correlation``: the rank correlations they share. Higher is better throughout.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from augmentations.errors import unknown_name
from selector.consensus import similarity, trust
from selector.consensus.base import Consensus, ScoreMatrix, aligned
from selector.consensus.trust import authority

__all__ = ["CONSENSUS", "Consensus", "aligned", "authority", "evaluate", "get", "names"]

CONSENSUS: dict[str, Consensus] = {c.name: c for c in (*similarity.CONSENSUS, *trust.CONSENSUS)}
DECIMALS = 12  # candidates that are equal but for rounding tie, so that the first of them can win


def names() -> list[str]:
    """The names of all consensus, in table order."""
    return list(CONSENSUS)


def get(name: str) -> Consensus:
    """The consensus of this name; raises InputError, with the nearest names, where there is none."""
    if name not in CONSENSUS:
        raise unknown_name("consensus", name, names())
    return CONSENSUS[name]


def evaluate(
    scores: Any,
    names: Sequence[str] | None = None,
    *,
    families: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """The values (m,), float64, of the named consensus, in that order; None: all that the input supports.

    scores: (k samples, m candidates), at least 2 of each, array or tensor of real numbers, higher = more
    anomalous, the same images in every column (``aligned`` sees to it).
    families: one hashable a candidate, such as the name of its augmentation; without, ``udr`` is left out.
    seed: of the random partners of ``mcs`` and ``udr``.

    A candidate whose column holds nan or an infinity is not refused: like a constant one it agrees with nobody
    (similarity 0, in ``select`` -1), and it has no vote in ``hits``, where its value is 0.

    Raises InputError, before computing anything, for scores or families of another shape or type, an unknown
    name, or one that needs families where there are none.
    """
    matrix = ScoreMatrix.of(scores, families, seed)
    if names is None:
        asked = [consensus for consensus in CONSENSUS.values() if consensus.supported_by(matrix)]
    else:
        asked = [get(name) for name in names]
        for consensus in asked:
            consensus.require(matrix)
    return {c.name: torch.from_numpy(np.round(c.compute(matrix), DECIMALS)) for c in asked}
