"""One-class scorers: what turns the embeddings of normal images into an anomaly score."""

from typing import Protocol, Self

from torch import Tensor

from augmentations.errors import unknown_name
from detectors.gaussian import Gaussian


class Scorer(Protocol):
    """Fitted to rows of normal images, it gives every row an anomaly score, higher = more anomalous."""

    score_is_distance: bool

    @classmethod
    def fit(cls, rows: Tensor) -> Self: ...
    def score(self, rows: Tensor) -> Tensor: ...
    def state(self) -> dict[str, Tensor]: ...
    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Self: ...


SCORERS: dict[str, type[Scorer]] = {"gaussian": Gaussian}


def scorer(name: str) -> type[Scorer]:
    """The scorer class of that name. Raises InputError for an unknown one."""
    if name not in SCORERS:
        raise unknown_name("scorer", name, list(SCORERS))
    return SCORERS[name]
