"""Optuna: its samplers as searches, and the study that its tools open."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

import augmentations
from augmentations import Augmentation, InputError
from augmentations.hyperparameters import numbers_and_choices
from augmentations.randomness import generator
from detectors import Kind, ScorerSpec
from selector.search.base import Judged, Proposal
from selector.search.optuna_logging import quiet_optuna
from selector.zoo.candidates import Candidate
from selector.zoo.plan import Plan, training_of

STARTUP = 10  # trials that TPE draws at random before it models densities: Optuna's default
BATCH = 5  # trials of TPE proposed together: more would keep more workers busy, fewer would learn more from each other

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Sampled:
    """What an Optuna sampler proposes from the search spaces of augmentations: the augmentation, the kind of detector
    and the scorer are choices, and hyperparameters are those of the chosen augmentation.

    A sampler proposes in batches of a size of its own, each from the outcomes of the batches before it, and each trial
    has a random stream of its own. So a proposal depends on its number, the seed and the evidence: neither on the
    number of jobs, nor on which of them ended first; and a longer search begins with the trials of a shorter one.
    """

    sampler: str
    n_trials: int
    plan: Plan
    seeds: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The augmentations to choose among."""
        return tuple(dict.fromkeys(augmentations.reference(type(each)) for each in self.plan.augmentations))

    @property
    def kinds(self) -> dict[str, tuple[type[Kind], Any]]:
        """The kinds to choose among, with their settings, by what the sampler calls them."""
        return _labelled((kind.reference(), (kind, settings)) for kind, settings in self.plan.kinds)

    @property
    def scorers(self) -> dict[str, ScorerSpec]:
        """The scorers to choose among, by what the sampler calls them; two classes may have one name."""
        return _labelled((scorer.describe(), scorer) for scorer in self.plan.scorers)

    @property
    def settings(self) -> dict[str, Any]:
        # In their order: what a sampler calls the choices, and what it draws, follows from it.
        chosen = {
            "augmentations": list(self.names),
            "detectors": [_of_kind(kind, settings) for kind, settings in self.plan.kinds],
            "scorers": [scorer.to_json() for scorer in self.plan.scorers],
            "seeds": list(self.seeds),
        }
        return {"search": {"sampler": self.sampler, **chosen}}

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """The default grids: what a grid over the same augmentations is judged by."""
        return self.plan.augmentations

    @property
    def learns(self) -> bool:
        return self.sampler != "random"

    def resume(self, stored: Sequence[Proposal]) -> list[Proposal]:
        if len(stored) > self.n_trials:
            rule = f"must not be fewer than the {len(stored)} that were begun in this run"
            raise InputError(f"trials={self.n_trials}", rule, f"try {len(stored)} or more, or choose another folder")
        return list(stored)

    def batch_start(self, number: int) -> int:
        if self.sampler == "random" or number < STARTUP:
            return 0
        return number - (number - STARTUP) % BATCH

    def propose(self, history: Sequence[Judged], pending: Sequence[Proposal], higher_is_better: bool) -> list[Proposal]:
        first, fresh = len(history), list[Proposal]()
        finished = [trial_of(judged) for judged in history]
        with quiet_optuna():
            for number in range(first + len(pending), self.n_trials):
                if self.batch_start(number) != first:
                    break
                running = [running_trial(proposal) for proposal in (*pending, *fresh)]
                fresh.append(self._next(number, [*finished, *running], higher_is_better))
        return fresh

    def _next(self, number: int, trials: Sequence[FrozenTrial], higher_is_better: bool) -> Proposal:
        # A trial that was proposed by this study would remember hyperparameters of augmentations it did not choose.
        study = optuna.create_study(direction=_direction(higher_is_better), sampler=self._sampler(number))
        study.add_trials(trials)
        trial = study.ask()
        candidates = self._suggest(trial)
        space = {name: distribution_to_json(distribution) for name, distribution in trial.distributions.items()}
        return Proposal(candidates, trial.params, space)

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
        kinds, scorers = self.kinds, self.scorers
        is_always_used = all(kind.uses_augmentation for kind, _ in kinds.values())
        name = trial.suggest_categorical("augmentation", self.names) if is_always_used else None
        kind, settings = kinds[trial.suggest_categorical("detector", list(kinds))]
        scorer = scorers[trial.suggest_categorical("scorer", list(scorers))]
        if not kind.uses_scorer(settings):
            scorer = self.plan.scorers[0]  # the same candidate, whichever was proposed
        augmentation = None
        if kind.uses_augmentation:
            name = name or trial.suggest_categorical("augmentation", self.names)
            augmentation = augmentations.make(name, **augmentations.suggest(name, _OwnNames(trial, name)))
            for part in (augmentation, *augmentation.parts):
                part.check((settings.image_size, settings.image_size))
        return tuple(Candidate(training_of(kind, settings, augmentation, seed), scorer) for seed in self.seeds)


def _of_kind(kind: type[Kind], settings: Any) -> str:
    described = training_of(kind, settings, None, seed=0).to_json()
    return json.dumps({name: described[name] for name in ("detector", "settings")}, sort_keys=True)


def _labelled(choices: Iterable[tuple[str, Choice]]) -> dict[str, Choice]:
    """Choices by their labels, which are numbered where one comes again."""
    labelled: dict[str, Choice] = {}
    for label, choice in choices:
        labelled[label if label not in labelled else f"{label} #{len(labelled) + 1}"] = choice
    return labelled


class _OwnNames:
    """A trial in which the hyperparameters of an augmentation from outside are those of its reference: another class
    of the same name may have others."""

    def __init__(self, trial: optuna.Trial, reference: str) -> None:
        self.trial, self.reference = trial, reference
        self.prefix = f"{augmentations.get(reference).name}."

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self.trial.suggest_float(self._own(name), low, high, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self.trial.suggest_int(self._own(name), low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.trial.suggest_categorical(self._own(name), choices)

    def _own(self, name: str) -> str:
        return f"{self.reference}.{name.removeprefix(self.prefix)}" if ":" in self.reference else name


# The study -----------------------------------------------------------------------------------------------------------


def write_study(
    history: Sequence[Judged],
    pending: Sequence[Proposal],
    times: Mapping[str, tuple[datetime, datetime]],
    criterion: str,
    higher_is_better: bool,
) -> bytes:
    """A study as the journal file that optuna-dashboard opens.

    Args:
        history: judged proposals, which become complete trials, or pruned ones where they collapsed or failed.
        pending: proposals that are being trained.
        times: by the id of a judged proposal's first candidate, when it was begun and finished.
        criterion: what decides, in words.
        higher_is_better: how to read the values.
    """
    lines = _Lines()
    around = _smallest_space([*(judged.proposal for judged in history), *pending])
    trials = [trial_of(judged, around) for judged in history]
    for trial, judged in zip(trials, history, strict=True):
        trial.datetime_start, trial.datetime_complete = times[judged.proposal.candidates[0].id]
    trials += [running_trial(proposal, around) for proposal in pending]
    with quiet_optuna():
        study = optuna.create_study(
            storage=JournalStorage(lines), study_name="ssad", direction=_direction(higher_is_better)
        )
        study.set_user_attr("criterion", criterion)
        study.add_trials(trials)
    return "".join(lines.written).encode()


def trial_of(judged: Judged, around: Mapping[str, BaseDistribution] | None = None) -> FrozenTrial:
    """A judged proposal as Optuna knows it.

    A collapsed or a failed one is pruned, which is the worst there is to TPE, whereas it would forget a failed trial
    and propose its like again.
    """
    parameters, space = _described(judged.proposal, around or {})
    is_ok = judged.status == "ok"
    return create_trial(
        state=TrialState.COMPLETE if is_ok else TrialState.PRUNED,
        value=judged.value if is_ok else None,
        params=parameters,
        distributions=space,
        user_attrs={name: getattr(judged, name) for name in ("rank", "candidate", "status", "reason")},
    )


def running_trial(proposal: Proposal, around: Mapping[str, BaseDistribution] | None = None) -> FrozenTrial:
    """A proposal that is not judged yet as Optuna knows it."""
    parameters, space = _described(proposal, around or {})
    return create_trial(state=TrialState.RUNNING, params=parameters, distributions=space)


def _described(
    proposal: Proposal, around: Mapping[str, BaseDistribution]
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    if proposal.parameters:
        space = {name: json_to_distribution(distribution) for name, distribution in proposal.space.items()}
        return dict(proposal.parameters), space
    parameters = _parameters(proposal.candidates[0])
    return parameters, {name: around[name] for name in parameters}


def _parameters(candidate: Candidate) -> dict[str, float | str | bool]:
    """A candidate's choices by name; of a range, both ends are parameters."""
    name = candidate.augmentation
    chosen: dict[str, float | str | bool] = {
        "augmentation": name,
        "detector": candidate.training.detector,
        "scorer": candidate.scorer.describe(),
    }
    return chosen | {f"{name}.{part}": value for part, value in numbers_and_choices(candidate.hyperparameters).items()}


def _smallest_space(proposals: Sequence[Proposal]) -> dict[str, BaseDistribution]:
    """The smallest space that holds the proposals that were not chosen from one."""
    values: dict[str, list[Any]] = {}
    for proposal in proposals:
        if not proposal.parameters:
            for name, value in _parameters(proposal.candidates[0]).items():
                values.setdefault(name, []).append(value)
    return {
        name: CategoricalDistribution(tuple(dict.fromkeys(known)))
        if isinstance(known[0], (str, bool))
        else FloatDistribution(min(known), max(known))
        for name, known in values.items()
    }


def _direction(higher_is_better: bool) -> StudyDirection:
    return StudyDirection.MAXIMIZE if higher_is_better else StudyDirection.MINIMIZE


class _Lines(BaseJournalBackend):
    """The journal of a study as the lines of its file, which is then written whole."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.written += [json.dumps(log) + "\n" for log in logs]

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return map(json.loads, self.written[log_number_from:])
