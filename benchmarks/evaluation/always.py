"""Candidates that need no choice: what a user could train alone, without a zoo, and would be wise to compare with."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd


class Taken(NamedTuple):
    """One way of detecting, as stored zoos describe candidates: the kind, its scorer, and settings in words."""

    kind: str
    scorer: str
    settings: frozenset[str] = frozenset()


# By the name in the leaderboard. PaDiM-like (Defard et al., ICPR 2020): a frozen encoder and a Gaussian for each
# location, over the mean of its neighbourhood of 3 x 3.
ALWAYS: Mapping[str, Taken] = {
    "always_frozen": Taken("frozen", "gaussian", frozenset({"score locations", "neighbourhood 3"})),
    "always_frozen_pooled": Taken("frozen", "gaussian", frozenset({"score pooled"})),
    "always_pixels": Taken("pixels", "gaussian"),
}


def kind_and_settings(detector: str) -> tuple[str, frozenset[str]]:
    """The kind of a candidate, and those of its settings that differ within the zoo (``kinds_in_words``)."""
    kind, _, settings = detector.partition(" (")
    return kind, frozenset(settings.removesuffix(")").split(", ") if settings else ())


def always_taken(row: str, candidates: pd.DataFrame) -> str | None:
    """The candidate of a zoo that a row of ALWAYS takes; None where there is none, or one would have to choose.

    Args:
        row: its name.
        candidates: one row per candidate, by id, with detector and scorer.
    """
    taken = ALWAYS[row]
    found = []
    for candidate, detector, scorer in zip(candidates.index, candidates.detector, candidates.scorer, strict=True):
        kind, settings = kind_and_settings(detector)
        if (kind, scorer) == (taken.kind, taken.scorer) and taken.settings <= settings:
            found.append(str(candidate))
    return found[0] if len(found) == 1 else None
