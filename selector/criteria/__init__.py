"""Criteria: one number for one candidate from label-free evidence.

``embedding``: train, pseudo-anomalous and test embeddings compared (DSV, MMD, alignment, ...).
``contrast``: test scores against held-out normal scores.
``pseudo``: held-out normal scores against those of other augmentations' pseudo anomalies.
``custom``: a user's own criterion.
"""

from collections.abc import Sequence

import torch

from augmentations.errors import InputError, unknown_name
from selector.criteria import contrast, embedding, pseudo
from selector.criteria.base import Criterion
from selector.evidence.auroc import probability_above
from selector.evidence.evidence import Evidence

__all__ = ["CRITERIA", "Criterion", "evaluate", "get", "inductive", "is_registered", "names", "probability_above"]

CRITERIA: dict[str, Criterion] = {c.name: c for c in (*embedding.CRITERIA, *contrast.CRITERIA, *pseudo.CRITERIA)}


def names() -> list[str]:
    """The names of all criteria, in table order."""
    return list(CRITERIA)


def get(name: str) -> Criterion:
    """The criterion of this name; raises InputError, with the nearest names, where there is none."""
    if not isinstance(name, str) or name not in CRITERIA:
        raise unknown_name("criterion", name, names())
    return CRITERIA[name]


def is_registered(criterion: Criterion) -> bool:
    """Whether this very criterion is a built-in one, and not one of a user's, whatever its name."""
    return CRITERIA.get(criterion.name) is criterion


def inductive() -> list[str]:
    """The names of those that need no test images, in table order."""
    return [name for name, criterion in CRITERIA.items() if not criterion.needs_test]


@torch.no_grad()
def evaluate(evidence: Evidence, names: Sequence[str | Criterion] | None = None) -> dict[str, float]:
    """The values of criteria for one candidate.

    Args:
        evidence: embeddings and anomaly scores of the candidate.
        names: of built-in criteria (``selector.criteria.names()``), or Criterion objects; None: all built-in ones that
            the evidence supports, in table order.

    Returns:
        The value of each by its name, in the order of ``names``; nan or an infinity where the evidence is degenerate.

    Raises:
        InputError: before computing anything, an unknown name, two criteria of one name, or one whose fields the
            evidence lacks.

    Example:
        >>> evidence = Evidence(validation_scores=[1.0, 2.0, 3.0], test_scores=[2.0, 4.0, 5.0])
        >>> round(evaluate(evidence, ["pu_auc"])["pu_auc"], 3)
        0.833
    """
    if names is None:
        chosen = [criterion for criterion in CRITERIA.values() if evidence.has(criterion.needs)]
    else:
        chosen = [name if isinstance(name, Criterion) else get(name) for name in names]
        for criterion in chosen:
            criterion.require(evidence)
        if len({id(criterion) for criterion in chosen}) > len({criterion.name for criterion in chosen}):
            raise InputError("names", "hold two criteria of one name", "rename one of them")
    # In table order, so that kernels leave their distances to the rest, and read only after all have started.
    places = {name: place for place, name in enumerate(CRITERIA)}
    in_order = sorted(chosen, key=lambda criterion: places.get(criterion.name, len(places)))
    values = {criterion.name: criterion(evidence) for criterion in in_order}
    return {criterion.name: float(values[criterion.name]) for criterion in chosen}
