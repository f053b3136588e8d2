"""What a search is: it proposes configurations from what is known of earlier ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from augmentations import Augmentation
from selector.zoo.candidates import Candidate


@dataclass(frozen=True)
class Proposal:
    """A configuration: its candidates, which differ in their seed alone.

    parameters, space: how the search names what it chose, and from what, as JSON; empty where it did not choose.
    """

    candidates: tuple[Candidate, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        candidates = [candidate.to_json() for candidate in self.candidates]
        return {"candidates": candidates, "parameters": dict(self.parameters), "space": dict(self.space)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Proposal":
        candidates = tuple(Candidate.from_json(candidate) for candidate in values["candidates"])
        return cls(candidates, values["parameters"], values["space"])


@dataclass(frozen=True)
class Judged:
    """A proposal and its place among the others.

    status: "ok", "collapsed" or "failed". value: the deciding value of one that is ok. rank, candidate, reason: of
    its row in the ranking.
    """

    proposal: Proposal
    status: str
    value: float | None
    rank: int
    candidate: str
    reason: str


class Search(Protocol):
    """What proposes configurations."""

    @property
    def n_trials(self) -> int:
        """How many configurations there are in the end."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What of it belongs to the run: to resume a run is to repeat these."""
        ...

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """What the validation anomalies of the run are made by, whatever is proposed."""
        ...

    @property
    def learns(self) -> bool:
        """Whether what it proposes depends on how earlier proposals were judged."""
        ...

    def resume(self, stored: Sequence[Proposal]) -> list[Proposal]:
        """The proposals to continue with, those of an earlier process among them.

        Raises:
            InputError: where this search would not have made them.
        """
        ...

    def batch_start(self, number: int) -> int:
        """The number of the proposal that the batch of this one begins with; those before it are judged first."""
        ...

    def propose(self, history: Sequence[Judged], pending: Sequence[Proposal], higher_is_better: bool) -> list[Proposal]:
        """The rest of a batch.

        Args:
            history: the judged proposals of the batches before it.
            pending: those of its own batch that were made already.
            higher_is_better: how to read the values of the history.
        """
        ...


def in_order(proposals: Iterable[Proposal]) -> list[Candidate]:
    """The candidates of proposals, each once: all of the first seed, then all of the next."""
    by_seed = zip(*(proposal.candidates for proposal in proposals), strict=True)
    return list({candidate.id: candidate for members in by_seed for candidate in members}.values())
