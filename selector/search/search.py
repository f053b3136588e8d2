"""Where configurations come from: a grid, or an Optuna sampler that hears what became of the earlier ones.

A sampler proposes in batches of a size of its own, each from the outcomes of the batches before it. So a proposal
depends on its number, the seed and the evidence: neither on the number of jobs, nor on which of them ended first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

import augmentations
from augmentations import InputError
from augmentations.hyperparameters import numbers_and_choices
from augmentations.errors import unknown_name, whole_number
from augmentations.randomness import generator
from detectors import Settings
from selector.search.optuna_logging import quiet_optuna
from selector.zoo.candidates import Candidate, Grids, Training, plan

SEARCHES = ("grid", "random", "tpe")
TRIALS = 30  # of a search, unless said: a third of them random, the others in batches
STARTUP = 10  # trials that TPE draws at random before it believes a density, which is Optuna's own number
BATCH = 5  # trials of TPE proposed together: more would keep more workers busy, fewer would learn more from each other


@dataclass(frozen=True)
class Proposal:
    """A configuration: as Optuna names its parameters, and as its candidates, which differ in their seed alone."""

    parameters: dict[str, float | str]
    distributions: dict[str, BaseDistribution]
    candidates: tuple[Candidate, ...]

    def trial(
        self, state: TrialState, value: float | None = None, attributes: Mapping[str, Any] | None = None
    ) -> FrozenTrial:
        """The trial as Optuna knows it."""
        return create_trial(
            state=state,
            value=value,
            params=dict(self.parameters),
            distributions=dict(self.distributions),
            user_attrs=dict(attributes or {}),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "parameters": self.parameters,
            "distributions": {name: distribution_to_json(space) for name, space in self.distributions.items()},
            "candidates": [candidate.to_json() for candidate in self.candidates],
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Proposal":
        distributions = {name: json_to_distribution(space) for name, space in kept["distributions"].items()}
        return cls(kept["parameters"], distributions, tuple(map(Candidate.from_json, kept["candidates"])))


def in_order(proposals: Iterable[Proposal]) -> list[Candidate]:
    """The candidates of proposals, each once: all of the first seed, then all of the next."""
    by_seed = zip(*(proposal.candidates for proposal in proposals), strict=True)
    return list({candidate.id: candidate for members in by_seed for candidate in members}.values())


class Search(Protocol):
    """What proposes configurations."""

    @property
    def trials(self) -> int:
        """How many configurations there are in the end."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What of it belongs to the run: to go on with a run is to repeat these."""
        ...

    @property
    def rivals(self) -> tuple[Training, ...]:
        """Whose augmentations make the bank of pseudo anomalies, whatever is proposed."""
        ...

    def first_of_batch(self, number: int) -> int:
        """The trial that the batch of this trial begins with; those before it are judged before it is proposed."""
        ...

    def propose(
        self, told: Sequence[FrozenTrial], begun: Sequence[Proposal], direction: StudyDirection
    ) -> list[Proposal]:
        """The rest of a batch, from the finished trials of the batches before it and the begun ones of its own.

        direction: of the values told.
        """
        ...


@dataclass(frozen=True)
class Grid:
    """Every cell of the grids, as one batch."""

    candidates: tuple[Candidate, ...]

    @cached_property
    def proposals(self) -> list[Proposal]:
        """The candidates by configuration; of a range, both ends are parameters."""
        same: dict[str, list[Candidate]] = {}
        for candidate in self.candidates:
            same.setdefault(candidate.configuration_id, []).append(candidate)
        parameters = [_ends(members[0]) for members in same.values()]
        spaces = _around(parameters)
        return [
            Proposal(given, {name: spaces[name] for name in given}, tuple(members))
            for given, members in zip(parameters, same.values(), strict=True)
        ]

    @property
    def trials(self) -> int:
        return len(self.proposals)

    @property
    def settings(self) -> dict[str, Any]:
        return {"candidates": [candidate.to_json() for candidate in self.candidates]}

    @property
    def rivals(self) -> tuple[Training, ...]:
        return tuple(candidate.training for candidate in self.candidates)

    def first_of_batch(self, number: int) -> int:
        return 0

    def propose(
        self, told: Sequence[FrozenTrial], begun: Sequence[Proposal], direction: StudyDirection
    ) -> list[Proposal]:
        return self.proposals[len(begun) :]


def _ends(candidate: Candidate) -> dict[str, float | str | bool]:
    name = candidate.training.augmentation
    chosen = {"augmentation": name, "detector": candidate.training.detector, "scorer": candidate.scorer}
    return chosen | {f"{name}.{part}": value for part, value in numbers_and_choices(candidate.hyperparameters).items()}


def _around(given: Sequence[Mapping[str, float | str | bool]]) -> dict[str, BaseDistribution]:
    """The smallest space that holds these parameters."""
    values: dict[str, list[Any]] = {}
    for parameters in given:
        for name, value in parameters.items():
            values.setdefault(name, []).append(value)
    return {
        name: CategoricalDistribution(tuple(dict.fromkeys(known)))
        if isinstance(known[0], (str, bool))
        else FloatDistribution(min(known), max(known))
        for name, known in values.items()
    }


@dataclass(frozen=True)
class Sampled:
    """What an Optuna sampler proposes from the search spaces of augmentations: the augmentation, the detector and the
    scorer are choices, and hyperparameters are those of the chosen augmentation.

    Each trial has a random stream of its own, so that a longer search begins with the trials of a shorter one.
    """

    sampler: str
    trials: int
    augmentations: tuple[str, ...]
    detectors: tuple[str, ...]
    scorers: tuple[str, ...]
    training: Settings
    seeds: tuple[int, ...]

    @property
    def settings(self) -> dict[str, Any]:
        named = {"augmentations": self.augmentations, "detectors": self.detectors, "scorers": self.scorers}
        return {"search": {"sampler": self.sampler, **named, "training": self.training.to_json()}}

    @property
    def rivals(self) -> tuple[Training, ...]:
        """The default grids: what a grid over the same augmentations is judged by."""
        cells = plan(self.augmentations, self.detectors[:1], self.scorers[:1], self.training, self.seeds[0])
        return tuple(candidate.training for candidate in cells)

    def first_of_batch(self, number: int) -> int:
        if self.sampler == "random" or number < STARTUP:
            return 0
        return number - (number - STARTUP) % BATCH

    def propose(
        self, told: Sequence[FrozenTrial], begun: Sequence[Proposal], direction: StudyDirection
    ) -> list[Proposal]:
        first, fresh = len(told), list[Proposal]()
        with quiet_optuna():
            for number in range(first + len(begun), self.trials):
                if self.first_of_batch(number) != first:
                    break
                fresh.append(self._next(number, told, [*begun, *fresh], direction))
        return fresh

    def _next(
        self, number: int, told: Sequence[FrozenTrial], begun: Sequence[Proposal], direction: StudyDirection
    ) -> Proposal:
        # A trial that was asked for in this study would remember hyperparameters of augmentations it did not choose.
        study = optuna.create_study(direction=direction, sampler=self._sampler(number))
        study.add_trials([*told, *(proposal.trial(TrialState.RUNNING) for proposal in begun)])
        trial = study.ask()
        candidates = self._suggest(trial)
        return Proposal(trial.params, trial.distributions, candidates)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        seed = generator(self.seeds[0], "search", number).initial_seed() % 2**32
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        # Groups: densities of all hyperparameters of an augmentation together, from the trials that chose it.
        # A constant liar keeps the proposals of one batch apart.
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=True
        )

    def _suggest(self, trial: optuna.Trial) -> tuple[Candidate, ...]:
        name = trial.suggest_categorical("augmentation", self.augmentations)
        detector = trial.suggest_categorical("detector", self.detectors)
        scorer = trial.suggest_categorical("scorer", self.scorers)
        grid = {name: [augmentations.suggest(name, trial)]}
        return tuple(plan(grid, [detector], [scorer], self.training, seed)[0] for seed in self.seeds)


def searching(
    search: str,
    trials: int | None,
    grids: Grids,
    detectors: Sequence[str],
    scorers: Sequence[str],
    training: Settings,
    seeds: Sequence[int],
) -> Grid | Sampled:
    """The search of this name, over augmentations' grids or over their search spaces.

    Raises InputError for an unknown search, a number of trials below 1 or of a grid, and grids to be searched in by a
    sampler; and as ``plan`` does.
    """
    if search not in SEARCHES:
        raise unknown_name("search", search, list(SEARCHES))
    if search == "grid":
        if trials is not None:
            raise InputError(
                f"trials={trials!r}", "a grid has as many trials as it has cells", 'leave it out, or try search="tpe"'
            )
        return Grid(tuple(candidate for seed in seeds for candidate in plan(grids, detectors, scorers, training, seed)))
    if isinstance(grids, Mapping):
        raise InputError(
            f"augmentations with grids and search={search!r}",
            "a sampler proposes hyperparameters of its own, from the search space of each augmentation",
            f'give the names alone, {list(grids)}, or search="grid"',
        )
    if trials is None:
        trials = TRIALS
    whole_number("trials", trials, 1, f"try {TRIALS}")
    cells = plan(grids, detectors, scorers, training, seeds[0])
    names = tuple(dict.fromkeys(candidate.training.augmentation for candidate in cells))
    return Sampled(search, trials, names, tuple(detectors), tuple(scorers), training, tuple(seeds))
