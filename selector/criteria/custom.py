"""A user's own criterion: a function of the evidence, or a Criterion, that decides beside the built-in ones."""

from collections.abc import Callable, Collection
from typing import Any

import torch

from augmentations.errors import InputError
from selector.criteria.base import Criterion
from selector.evidence.evidence import EMBEDDINGS, SCORES, Evidence

Function = Callable[[Evidence], float]
SOURCE = "the user"


class CustomCriterionError(Exception):
    """A user's criterion has no value for a candidate; the message says why."""


def as_criterion(custom: Function | Criterion, taken: Collection[str]) -> Criterion:
    """The criterion that a user gave.

    Args:
        custom: a function, where higher is better, which gets its own name; or a Criterion, returned as it is.
        taken: names of other columns of the ranking and of consensus functions.

    Raises:
        InputError: neither of the two, a function without a name of its own, a field that Evidence does not have, or a
            name that is taken.
    """
    if isinstance(custom, Criterion):
        unknown = [name for name in custom.needs if name not in EMBEDDINGS + SCORES]
        if unknown:
            fields = ", ".join(EMBEDDINGS + SCORES)
            raise InputError(
                f"criterion {custom.name!r}", f"needs {unknown[0]!r}, which is not a field of Evidence", f"try {fields}"
            )
        criterion = custom
    elif callable(custom):
        criterion = _named(custom)
    else:
        raise InputError(
            f"criterion={custom!r}", "is not a criterion", 'give a name, a function of Evidence, or "auto"'
        )
    name = criterion.name
    if not isinstance(name, str) or not name.isidentifier():
        remedy = "write `def my_criterion(evidence): ...`, or give selector.criteria.Criterion(name=...)"
        raise InputError(f"criterion {name!r}", "has no name for its column", remedy)
    if name in taken:
        raise InputError(f"criterion {name!r}", "is the name of another column or of a consensus", "rename it")
    return criterion


def _named(function: Function) -> Criterion:
    first_line = (getattr(function, "__doc__", None) or "").strip().partition("\n")[0]
    name = getattr(function, "__name__", type(function).__name__ + "()")
    description = first_line or "A function of the evidence."
    return Criterion(name, True, (), SOURCE, function, description)  # type: ignore[arg-type]


@torch.no_grad()
def evaluate(criterion: Criterion, evidence: Evidence) -> float:
    """The value of a user's criterion; raises CustomCriterionError where it raises anything, or returns no number."""
    try:
        criterion.require(evidence)
        value: Any = criterion.compute(evidence)
        number = float(value) if hasattr(value, "__float__") else None
    except Exception as error:  # whatever a user's function raises is this candidate's failure, and no crash
        first_line = str(error).partition("\n")[0]
        raise CustomCriterionError(f"{criterion.name} raised {type(error).__name__}: {first_line}") from error
    if number is None:
        raise CustomCriterionError(f"{criterion.name} gave {value!r:.60}, which is not a number")
    return number


def to_json(criterion: Criterion) -> dict[str, Any]:
    """What is saved of a user's criterion: all but the function."""
    return {name: getattr(criterion, name) for name in ("name", "higher_is_better", "needs", "source", "description")}


def from_json(saved: dict[str, Any]) -> Criterion:
    """A user's criterion as it was saved; it can be shown and not computed."""

    def compute(evidence: Evidence) -> torch.Tensor:
        raise InputError(
            f"criterion {saved['name']!r}", "was a function, which is not saved", "give it to select_best again"
        )

    return Criterion(**{**saved, "needs": tuple(saved["needs"])}, compute=compute)
