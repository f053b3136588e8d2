"""What a one-class scorer is: fitted to rows of features of normal images, it gives any row an anomaly score."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import Tensor, nn


class Scorer(nn.Module, ABC):
    """A one-class model on rows of features, with settings of its own.

    A subclass names its settings in ``__init__`` and passes them on; ``fit`` computes tensors and stores them by
    ``remember``; ``forward`` scores. Everything else (files, devices, export) follows from that.

    name: the key it is registered under. normalised: whether pooled features of images reach it L2-normalised,
    or else as they are. score_is_distance: whether scores are positive and distance-like, so that
    their ratios and logarithms make sense. per_location: the form with one model for each location, fitted to rows
    (n,h,w,d); None where there is none, and then all locations share one model.
    """

    name: ClassVar[str]
    normalised: ClassVar[bool] = True
    score_is_distance: ClassVar[bool] = False
    per_location: ClassVar["type[Scorer] | None"] = None

    def __init__(self, **settings: Any) -> None:
        if settings and type(self).__init__ is Scorer.__init__:
            raise TypeError(f"it takes no settings, and {', '.join(settings)} was given")
        super().__init__()
        self.settings = settings

    @abstractmethod
    def fit(self, rows: Tensor) -> Self:
        """Fit to rows (n,d) of normal images, and return the scorer on the device of ``rows``.

        Raises:
            InputError: for rows that are not finite, or too few, or too alike.
        """

    @abstractmethod
    def forward(self, rows: Tensor) -> Tensor:
        """The anomaly score of each of ``rows`` (...,d), as (...); higher = more anomalous."""

    def score(self, rows: Tensor) -> Tensor:
        """The anomaly score of each of ``rows`` (...,d), as (...)."""
        return self(rows)

    def log_likelihood(self, rows: Tensor) -> float | None:
        """The mean log-likelihood of ``rows``, up to a constant of d alone; None for a scorer that is not a density."""
        return None

    def remember(self, **tensors: Tensor) -> Self:
        """Store what fitting computed, by name: it moves, is saved and is exported with the scorer."""
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        return self

    def restore(self, tensors: Mapping[str, Tensor]) -> Self:
        """The scorer as it was when ``state_dict`` gave these tensors.

        Raises:
            KeyError: where one is missing.
        """
        return self.remember(**tensors)
