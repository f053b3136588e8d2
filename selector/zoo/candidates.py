"""Candidates: what the zoo trains and selection chooses between."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import augmentations
import detectors
from augmentations import Augmentation
from augmentations.hyperparameters import Hyperparameters, Value, from_json
from detectors import Kind, ScorerSpec

NO_AUGMENTATION = "none"  # in the column "augmentation", of a kind that learns against none
ID_DIGITS = 12  # hexadecimal ones, of a digest


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:ID_DIGITS]


def is_named_as_candidate(folder: Path) -> bool:
    """Whether the name of a folder is what the id of a candidate looks like."""
    return len(folder.name) == ID_DIGITS and not set(folder.name) - set("0123456789abcdef")


def ensemble_id(candidate_ids: Sequence[str]) -> str:
    """Of the detector that these candidates make together, whatever their order; of one, its own."""
    return candidate_ids[0] if len(candidate_ids) == 1 else _digest(sorted(candidate_ids))


@dataclass(frozen=True)
class Training:
    """What decides the weights: a kind of detector and its settings, augmentation and hyperparameters, and a seed.

    detector, augmentation: names, or references "module:Class" for classes from outside; no augmentation where the
    kind takes none. settings: the kind's own.
    """

    detector: str
    settings: Any
    augmentation: str | None
    hyperparameters: tuple[tuple[str, Value], ...]
    seed: int

    @cached_property
    def id(self) -> str:
        return _digest(self.to_json())

    def make_augmentation(self) -> Augmentation | None:
        """What its pseudo anomalies are made by; None where it takes none."""
        if self.augmentation is None:
            return None
        return augmentations.make(self.augmentation, **dict(self.hyperparameters))

    @property
    def family(self) -> str | None:
        """The family of what it was trained against, whose pseudo anomalies it is not judged by."""
        if self.augmentation is None:
            return detectors.get(self.detector).family_of(self.settings)
        return augmentations.get(self.augmentation).family

    def to_json(self) -> dict[str, Any]:
        values = {
            "detector": self.detector,
            "settings": asdict(self.settings),
            "augmentation": self.augmentation,
            "hyperparameters": dict(self.hyperparameters),
            "seed": self.seed,
        }
        return json.loads(json.dumps(values))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Training":
        settings = detectors.get(values["detector"]).Settings(**values["settings"])
        ranges = tuple(from_json(values["hyperparameters"]).items())
        return cls(values["detector"], settings, values["augmentation"], ranges, values["seed"])


@dataclass(frozen=True)
class Candidate:
    """A training and a scorer on its features; ``id`` is a stable hash of both."""

    training: Training
    scorer: ScorerSpec

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
    def augmentation(self) -> str:
        """The augmentation as tables name it: "none" where there is none."""
        return self.training.augmentation or NO_AUGMENTATION

    @property
    def hyperparameters(self) -> Hyperparameters:
        return dict(self.training.hyperparameters)

    @cached_property
    def kind_of_scores(self) -> str:
        """As of its detector: what candidates have in common whose scores are alike but for their scale."""
        return self.make_detector("cpu").kind_of_scores()

    def make_detector(self, device: torch.device | str) -> Kind:
        """The detector, not trained yet."""
        training = self.training
        kind = detectors.get(training.detector)
        augmentation = training.make_augmentation()
        return kind(training.settings, augmentation, scorer=self.scorer, seed=training.seed, device=device)

    def to_json(self) -> dict[str, Any]:
        return {"training": self.training.to_json(), "scorer": self.scorer.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Candidate":
        return cls(Training.from_json(values["training"]), ScorerSpec.from_json(values["scorer"]))


def count_kinds(candidates: Iterable["Candidate"]) -> int:
    """How many kinds of detectors the candidates are of, whatever their settings."""
    return len({candidate.training.detector for candidate in candidates})


def kinds_in_words(candidates: Sequence[Candidate]) -> dict[str, str]:
    """The kind of each candidate by id, with those of its settings that differ between candidates of that kind."""
    settings = {candidate.id: candidate.training.to_json()["settings"] for candidate in candidates}
    values: dict[tuple[str, str], set[str]] = {}
    for candidate in candidates:
        for name, value in settings[candidate.id].items():
            values.setdefault((candidate.training.detector, name), set()).add(json.dumps(value, sort_keys=True))
    words = {}
    for candidate in candidates:
        kind = candidate.training.detector
        differing = [
            f"{name} {_in_words(value)}"
            for name, value in settings[candidate.id].items()
            if len(values[kind, name]) > 1
        ]
        words[candidate.id] = f"{kind} ({', '.join(differing)})" if differing else kind
    return words


def _in_words(value: Any) -> str:
    """A setting as people write it; of a nested one, such as an encoder, its name."""
    if isinstance(value, Mapping):
        return str(value.get("name", value))
    return " ".join(map(_in_words, value)) if isinstance(value, list) else f"{value}"


def _scorers_in_words(candidates: Sequence[Candidate]) -> dict[ScorerSpec, str]:
    """What scorers are called: with the module of the class where two would be called the same."""
    specs = dict.fromkeys(candidate.scorer for candidate in candidates)
    counts = Counter(spec.describe() for spec in specs)
    return {spec: spec.describe(in_full=counts[spec.describe()] > 1) for spec in specs}


def columns(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """What candidates are, as the columns of tables; kinds and scorers are called so that different ones differ."""
    kinds, scorers = kinds_in_words(candidates), _scorers_in_words(candidates)
    return [
        {
            "candidate": candidate.id,
            "augmentation": candidate.augmentation,
            "hyperparameters": candidate.hyperparameters,
            "detector": kinds[candidate.id],
            "scorer": scorers[candidate.scorer],
            "seed": candidate.training.seed,
        }
        for candidate in candidates
    ]


def descriptions(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Candidates in a few words, by id, from rows that have their ``columns``: kind and scorer are named where they
    vary."""
    varying = [column for column in ("detector", "scorer") if len({row[column] for row in rows}) > 1]
    words = {row["candidate"]: _row_in_words(row, varying) for row in rows}
    counts = Counter(words.values())
    full = {row["candidate"]: _row_in_words(row, varying, in_full=True) for row in rows}
    return {i: text if counts[text] == 1 else full[i] for i, text in words.items()}


def _row_in_words(row: Mapping[str, Any], varying: Sequence[str], in_full: bool = False) -> str:
    """A row in a few words, with what varies in brackets; ``in_full``: with the modules of classes from outside."""
    text = describe(row["detector"], row["augmentation"], row["hyperparameters"], in_full)
    others = [str(row[column]) if in_full else str(row[column]).rpartition(":")[2] for column in varying]
    added = ", ".join(other for other in others if other != text)
    return f"{text} [{added}]" if added else text


def describe(detector: str, augmentation: str, hyperparameters: Mapping[str, Value], in_full: bool = False) -> str:
    """A candidate in a few words: its augmentation and hyperparameters, or its kind where it takes none.

    ``in_full``: with the module of a class from outside.
    """
    name = detector if augmentation == NO_AUGMENTATION else augmentation
    name = name if in_full else name.rpartition(":")[2]
    if augmentation == NO_AUGMENTATION:
        return name
    values = ", ".join(f"{name} {interval(value)}" for name, value in hyperparameters.items())
    return f"{name} ({values})" if values else name


def interval(value: Value) -> str:
    """A hyperparameter as people write it: ``.3 to 3.3``, one number where both ends are the same, or a choice."""
    if isinstance(value, (str, bool)):
        return str(value)
    low, high = (f"{end:.3g}" for end in (value if isinstance(value, tuple) else (value, value)))
    return low if low == high else f"{low} to {high}"
