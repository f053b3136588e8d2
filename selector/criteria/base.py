"""What a criterion is: one number for one candidate, from evidence without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from augmentations.errors import InputError
from selector.evidence.pairwise import precise

if TYPE_CHECKING:  # evidence imports the pairwise sums of this package
    from selector.evidence.evidence import Evidence


def given(evidence: Evidence, names: tuple[str, ...], asker: str = "this criterion") -> tuple[Tensor, ...]:
    """The named fields of the evidence; raises InputError, naming the missing ones, where it lacks any."""
    missing = [name for name in names if getattr(evidence, name) is None]
    if missing:
        raise InputError(
            asker,
            f"needs {', '.join(missing)}, which the evidence lacks",
            f"pass Evidence({', '.join(f'{name}=...' for name in missing)})",
        )
    return tuple(getattr(evidence, name) for name in names)


def scores_of(evidence: Evidence, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """The named scores in float64, all nan where one is not finite, which ranks and quantiles would hide.

    Raises InputError as ``given`` does.
    """
    found = (precise(scores) for scores in given(evidence, names))
    return tuple(torch.where(scores.isfinite().all(), scores, torch.nan) for scores in found)


@dataclass(frozen=True)
class Criterion:
    """A pure function of a candidate's evidence, with what a ranking and a report must know about it.

    name: the key it is registered under.
    higher_is_better: the direction in which a candidate improves.
    needs: the fields of Evidence it reads.
    source: the paper, or "score contrast".
    compute: evidence -> 0-d tensor; never normalises, guards or guesses; degenerate input gives nan or inf.
    description: one sentence for a reader who meets the name in a report.
    """

    name: str
    higher_is_better: bool
    needs: tuple[str, ...]
    source: str
    compute: Callable[[Evidence], Tensor]
    description: str

    @property
    def uses_draws(self) -> bool:
        """Whether the value depends on random pseudo anomalies, so that several draws give its spread."""
        return "augmented" in self.needs

    @property
    def needs_test(self) -> bool:
        """Whether it can't be computed without test images."""
        return "test" in self.needs or "test_scores" in self.needs

    def require(self, evidence: Evidence) -> None:
        """Raise InputError, naming the missing fields, where the evidence cannot support this criterion."""
        given(evidence, self.needs, asker=f"criterion {self.name!r}")

    def __call__(self, evidence: Evidence) -> Tensor:
        """The value, 0-d, on the evidence's device, without waiting for it (float64 where the device has it).

        Raises InputError where a needed field is missing.
        """
        self.require(evidence)
        value = self.compute(evidence)
        device = getattr(evidence, self.needs[0]).device
        return value if value.device == device else value.to(torch.float32).to(device)
