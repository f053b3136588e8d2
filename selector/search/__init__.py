"""What proposes candidates from what is known of earlier ones: the grid, and Optuna's samplers."""

from collections.abc import Mapping, Sequence
from typing import Any

from augmentations import InputError
from augmentations.errors import unknown_name, whole_number
from selector.search.base import Judged, Proposal, Search
from selector.search.grid import Grid
from selector.search.optuna import Sampled
from selector.zoo.plan import Plan

__all__ = ["DEFAULT_TRIALS", "SEARCHES", "Grid", "Judged", "Proposal", "Sampled", "Search", "resolve_search"]

SEARCHES = ("grid", "random", "tpe")
DEFAULT_TRIALS = 30  # of a sampler: a third of them random, the others in batches


def resolve_search(search: Any, trials: int | None, plan: Plan, choices: Any, seeds: Sequence[int]) -> Search:
    """The search that a user means.

    Args:
        search: "grid", or the name of a sampler, "random" or "tpe".
        trials: how many configurations a sampler proposes; None: 30.
        plan: what there is to choose among.
        choices: the augmentations as the user named them, since a sampler takes no grids.
        seeds: of the trainings of every configuration.
    Raises:
        InputError: for an unknown search, a number of trials below 1 or of a grid, and grids to be searched in by a
            sampler.
    """
    if not isinstance(search, str) or search not in SEARCHES:
        raise unknown_name("search", search, list(SEARCHES))
    if search == "grid":
        if trials is not None:
            rule = "a grid has as many trials as it has cells"
            raise InputError(f"trials={trials!r}", rule, 'leave it out, or try search="tpe"')
        return Grid(plan, tuple(seeds))
    if isinstance(choices, Mapping):
        raise InputError(
            f"augmentations with grids and search={search!r}",
            "a sampler proposes hyperparameters of its own, from the search space of each augmentation",
            f'give the names alone, {list(choices)}, or search="grid"',
        )
    n_trials = DEFAULT_TRIALS if trials is None else trials
    whole_number("trials", n_trials, 1, f"try {DEFAULT_TRIALS}")
    return Sampled(search, n_trials, plan, tuple(seeds))
