"""What a criterion is: one number for one candidate, from evidence without labels."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from selector.evidence.evidence import Evidence
from selector.evidence.pairwise import to_float64


def scores_of(evidence: Evidence, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """The named scores in float64, all nan where one is not finite, which ranks and quantiles would hide.

    Raises InputError as ``Evidence.require`` does.
    """
    precise = (to_float64(scores) for scores in evidence.require(names, by="this criterion"))
    return tuple(torch.where(scores.isfinite().all(), scores, torch.nan) for scores in precise)


OfImages = Callable[[Tensor], Tensor]  # from which test images count (k, bool) to the value of a criterion


@dataclass(frozen=True)
class Criterion:
    """A pure function of a candidate's evidence, with what a ranking and a report must know about it.

    Args:
        name: the name of its column, and of a built-in one the key in ``CRITERIA``.
        higher_is_better: the direction in which a candidate improves.
        needs: the fields of Evidence that it reads.
        source: the paper, or "score contrast".
        compute: evidence -> 0-d tensor; never normalises, guards or guesses; degenerate input gives nan or inf.
        description: one sentence for a reader who sees the name in a report.
        of_images: evidence -> the value as a function of which test images count, from what each adds to it; None:
            it has to be computed again.
    """

    name: str
    higher_is_better: bool
    needs: tuple[str, ...]
    source: str
    compute: Callable[[Evidence], Tensor]
    description: str
    of_images: Callable[[Evidence], OfImages] | None = None

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
        evidence.require(self.needs, by=f"criterion {self.name!r}")

    def __call__(self, evidence: Evidence) -> Tensor:
        """The value, 0-d, on the evidence's device, without waiting for it (float64 where the device has it).

        Raises InputError where a needed field is missing.
        """
        self.require(evidence)
        value = self.compute(evidence)
        if not isinstance(value, Tensor):  # a user's function may return a float
            value = torch.tensor(value, dtype=torch.float64)
        device = getattr(evidence, self.needs[0]).device if self.needs else value.device
        return value if value.device == device else value.to(torch.float32).to(device)
