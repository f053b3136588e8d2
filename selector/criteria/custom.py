"""A user's own criterion: a function of the evidence, or a Criterion, that decides beside the built-in ones."""

from collections.abc import Callable, Collection
from typing import Any

import torch

from augmentations import InputError
from selector.criteria import Criterion
from selector.evidence.evidence import EMBEDDINGS, SCORES, Evidence

Function = Callable[[Evidence], float]
SOURCE = "the user"


class OwnCriterionError(Exception):
    """A user's criterion has no value for a candidate; the message tells why."""


def own(given: Function | Criterion, taken: Collection[str]) -> Criterion:
    """The criterion that a user gave: a function, where higher is better, under its name, or a Criterion as it is.

    taken: names that columns of the ranking and consensus functions have already. Raises InputError for what is
    neither, for a function without a name of its own, and for a name that is taken.
    """
    if isinstance(given, Criterion):
        unknown = [name for name in given.needs if name not in EMBEDDINGS + SCORES]
        if unknown:
            fields = ", ".join(EMBEDDINGS + SCORES)
            raise InputError(
                f"criterion {given.name!r}", f"needs {unknown[0]!r}, no field of Evidence", f"try {fields}"
            )
        made = given
    elif callable(given):
        made = _named(given)
    else:
        raise InputError(f"criterion={given!r}", "is not a criterion", 'give a name, a function of Evidence, or "auto"')
    if not isinstance(made.name, str) or not made.name.isidentifier():
        remedy = "write `def my_criterion(evidence): ...`, or give selector.criteria.Criterion(name=...)"
        raise InputError(f"criterion {made.name!r}", "has no name for its column", remedy)
    if made.name in taken:
        raise InputError(f"criterion {made.name!r}", "is the name of another column or of a consensus", "rename it")
    return made


def _named(function: Function) -> Criterion:
    told = (getattr(function, "__doc__", None) or "").strip().partition("\n")[0]
    name = getattr(function, "__name__", type(function).__name__ + "()")
    return Criterion(name, True, (), SOURCE, function, told or "A function of the evidence.")  # type: ignore[arg-type]


@torch.no_grad()
def measure(criterion: Criterion, evidence: Evidence) -> float:
    """The value of a user's criterion. Raises OwnCriterionError where it raises anything, or gives no number."""
    try:
        criterion.require(evidence)
        value: Any = criterion.compute(evidence)
        number = float(value) if hasattr(value, "__float__") else None
    except Exception as error:  # whatever a user's function raises is this candidate's failure, and no crash
        told = str(error).partition("\n")[0]
        raise OwnCriterionError(f"{criterion.name} raised {type(error).__name__}: {told}") from error
    if number is None:
        raise OwnCriterionError(f"{criterion.name} gave {value!r:.60}, which is not a number")
    return number


def to_json(criterion: Criterion) -> dict[str, Any]:
    """What is kept of a user's criterion: all but the function."""
    return {name: getattr(criterion, name) for name in ("name", "higher_is_better", "needs", "source", "description")}


def from_json(kept: dict[str, Any]) -> Criterion:
    """A user's criterion as it was kept; it can be shown and not computed."""

    def compute(evidence: Evidence) -> torch.Tensor:
        raise InputError(
            f"criterion {kept['name']!r}", "was a function that is not kept", "give it to select_best again"
        )

    return Criterion(**{**kept, "needs": tuple(kept["needs"])}, compute=compute)
