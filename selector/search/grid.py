"""The grid: every combination of the plan, as one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from augmentations import Augmentation, InputError
from augmentations.errors import first_few
from selector.search.base import Judged, Proposal
from selector.zoo.candidates import Candidate, columns, descriptions
from selector.zoo.plan import Plan


@dataclass(frozen=True)
class Grid:
    """Every combination of a plan, each with every seed. A run of it grows when more is planned."""

    plan: Plan
    seeds: tuple[int, ...]

    @cached_property
    def proposals(self) -> list[Proposal]:
        """The candidates by configuration."""
        same: dict[str, list[Candidate]] = {}
        for seed in self.seeds:
            for candidate in self.plan.candidates(seed):
                same.setdefault(candidate.configuration_id, []).append(candidate)
        return [Proposal(tuple(candidates)) for candidates in same.values()]

    @property
    def n_trials(self) -> int:
        return len(self.proposals)

    @property
    def settings(self) -> dict[str, Any]:
        return {"search": "grid"}

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        return self.plan.augmentations

    @property
    def learns(self) -> bool:
        return False

    def resume(self, stored: Sequence[Proposal]) -> list[Proposal]:
        planned = {candidate.id for proposal in self.proposals for candidate in proposal.candidates}
        there = [candidate for proposal in stored for candidate in proposal.candidates]
        others = [candidate for candidate in there if candidate.id not in planned]
        if others:
            words = descriptions(columns(there))
            left_out = first_few([f"{words[other.id]}, seed {other.training.seed}" for other in others])
            raise InputError(
                "this run",
                f"has candidates that this call leaves out ({left_out})",
                "name them too, or choose another folder",
            )
        return self.proposals

    def batch_start(self, number: int) -> int:
        return 0

    def propose(self, history: Sequence[Judged], pending: Sequence[Proposal], higher_is_better: bool) -> list[Proposal]:
        return self.proposals[len(pending) :]
