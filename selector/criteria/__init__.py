"""Criteria: one number for one candidate from label-free evidence.

``embedding``: train, pseudo-anomalous and test embeddings compared (DSV, MMD, alignment, ...).
``contrast``: test scores against held-out normal scores.
``pseudo``: held-out normal scores against those of other augmentations' pseudo anomalies.
``pairwise``: the chunked means over pairs that they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from augmentations.errors import unknown_name
from selector.criteria import contrast, embedding, pseudo
from selector.criteria.base import Criterion
from selector.criteria.contrast import probability_above

if TYPE_CHECKING:
    from selector.evidence.evidence import Evidence

__all__ = ["CRITERIA", "Criterion", "evaluate", "get", "inductive", "names", "probability_above"]

CRITERIA: dict[str, Criterion] = {c.name: c for c in (*embedding.CRITERIA, *contrast.CRITERIA, *pseudo.CRITERIA)}


def names() -> list[str]:
    """The names of all criteria, in table order."""
    return list(CRITERIA)


def get(name: str) -> Criterion:
    """The criterion of this name; raises InputError, with the nearest names, where there is none."""
    if name not in CRITERIA:
        raise unknown_name("criterion", name, names())
    return CRITERIA[name]


def inductive() -> list[str]:
    """The names of those that need no test images, in table order."""
    return [name for name, criterion in CRITERIA.items() if not criterion.needs_test]


@torch.no_grad()
def evaluate(evidence: Evidence, names: Sequence[str] | None = None) -> dict[str, float]:
    """The values of the named criteria, in that order; None: all that the evidence supports, in table order.

    Raises InputError, before computing anything, for an unknown name or one whose fields the evidence lacks.
    """
    if names is None:
        asked = [criterion for criterion in CRITERIA.values() if evidence.has(criterion.needs)]
    else:
        asked = [get(name) for name in names]
        for criterion in asked:
            criterion.require(evidence)
    # In table order, so that kernels leave their distances to the rest, and read only after all have started.
    values = {c.name: c(evidence) for c in CRITERIA.values() if c in asked}
    return {c.name: float(values[c.name]) for c in asked}
