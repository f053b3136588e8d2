"""Candidates: what the zoo trains and selection chooses between."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch

import augmentations
import detectors
from augmentations import Augmentation, InputError
from augmentations.hyperparameters import Hyperparameters, Value, from_json
from detectors import Classifier, Settings

Grids = Mapping[str, Sequence[Mapping[str, Any]]] | Iterable[str]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def joint_id(candidate_ids: Sequence[str]) -> str:
    """Of the detector that these candidates make together, whatever their order; of one, its own."""
    return candidate_ids[0] if len(candidate_ids) == 1 else _digest(sorted(candidate_ids))


@dataclass(frozen=True)
class Training:
    """What decides the weights: augmentation and hyperparameters, detector and settings, seed."""

    augmentation: str
    hyperparameters: tuple[tuple[str, Value], ...]
    detector: str
    settings: Settings
    seed: int

    @cached_property
    def id(self) -> str:
        return _digest(self.to_json())

    def make_augmentation(self) -> Augmentation:
        return augmentations.make(self.augmentation, **dict(self.hyperparameters))

    def to_json(self) -> dict[str, Any]:
        plain = {"hyperparameters": dict(self.hyperparameters), "settings": self.settings.to_json()}
        return json.loads(json.dumps({**asdict(self), **plain}))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Training":
        ranges = tuple(from_json(values["hyperparameters"]).items())
        return cls(**{**values, "hyperparameters": ranges, "settings": Settings.from_json(values["settings"])})


@dataclass(frozen=True)
class Candidate:
    """A training and a scorer on its features; ``id`` is a stable hash of both."""

    training: Training
    scorer: str

    @cached_property
    def id(self) -> str:
        return _digest(self.to_json())

    @cached_property
    def configuration_id(self) -> str:
        """The same for candidates that differ in their seed alone."""
        return replace(self, training=replace(self.training, seed=0)).id

    @property
    def training_id(self) -> str:
        return self.training.id

    @property
    def hyperparameters(self) -> Hyperparameters:
        return dict(self.training.hyperparameters)

    def make_detector(self, device: torch.device | str) -> Classifier:
        """The detector, not trained yet."""
        training = self.training
        return detectors.get(training.detector)(
            training.make_augmentation(),
            training.settings,
            seed=training.seed,
            scorer_name=self.scorer,
            device=device,
        )

    def describe(self) -> str:
        """The augmentation and its hyperparameters in a few words."""
        return described(self.training.augmentation, self.hyperparameters)

    def to_json(self) -> dict[str, Any]:
        return {"training": self.training.to_json(), "scorer": self.scorer}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Candidate":
        return cls(Training.from_json(values["training"]), values["scorer"])


def described(augmentation: str, hyperparameters: Mapping[str, Value]) -> str:
    """An augmentation and its hyperparameters in a few words."""
    return f"{augmentation} ({', '.join(f'{name} {interval(ends)}' for name, ends in hyperparameters.items())})"


def interval(value: Value) -> str:
    """A hyperparameter as people write it: ``.3 to 3.3``, one number where both ends are the same, or a choice."""
    if isinstance(value, (str, bool)):
        return str(value)
    low, high = (f"{end:.3g}" for end in (value if isinstance(value, tuple) else (value, value)))
    return low if low == high else f"{low} to {high}"


def plan(
    grids: Grids, detector_names: Sequence[str], scorers: Sequence[str], settings: Settings, seed: int
) -> list[Candidate]:
    """The candidates of augmentation names (their default grids) or of explicit grids, in order, each once.

    Raises InputError for unknown names, for empty, ill-formed or infeasible grids: before any training.
    """
    if isinstance(grids, str):
        grids = [grids]
    if isinstance(grids, (set, frozenset)):
        grids = sorted(grids)  # the order of a set differs from process to process
    cells = dict(grids) if isinstance(grids, Mapping) else {name: augmentations.grid(name) for name in grids}
    for kind, given in (("augmentations", cells), ("detectors", detector_names), ("scorers", scorers)):
        if not given or isinstance(given, str):
            raise InputError(
                f"{kind}={given!r}", "must be a non-empty sequence of names", f"see {kind.removesuffix('s')} names"
            )
    for name in detector_names:
        detectors.get(name)
    for name in scorers:
        detectors.scorer(name)
    size = (settings.image_size, settings.image_size)
    candidates: dict[str, Candidate] = {}
    for name, cell_list in cells.items():
        if not cell_list:
            raise InputError(
                f"augmentations: the grid of {name!r}", "is empty", "give one dict of hyperparameters or more"
            )
        if not isinstance(cell_list, Sequence) or not all(isinstance(cell, Mapping) for cell in cell_list):
            raise InputError(
                f"augmentations: the grid of {name!r}", "must be a list of dicts", f"try {{{name!r}: [{{}}]}}"
            )
        for cell in cell_list:
            augmentation = augmentations.make(name, **cell)
            for part in (augmentation, *augmentation.parts):
                part.check(size)
            ranges = tuple(augmentation.hyperparameters().items())
            for detector in detector_names:
                for scorer in scorers:
                    own = detectors.get(detector).own_settings(settings)
                    candidate = Candidate(Training(name, ranges, detector, own, seed), scorer)
                    candidates[candidate.id] = candidate
    return list(candidates.values())
