"""Which candidates a request means: every augmentation, kind and scorer of it with each of their settings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import augmentations
import detectors
from augmentations import Augmentation, InputError
from augmentations.errors import unknown_name
from detectors import Kind, Preset, ScorerSpec
from selector.zoo.candidates import Candidate, Training

# Names or classes, each with what it is by default, or {name or class: [settings]}.
Choices = Mapping[Any, Sequence[Mapping[str, Any]]] | Iterable[Any]


@dataclass(frozen=True)
class Plan:
    """The augmentations, the kinds with their settings, and the scorers that candidates are made of."""

    augmentations: tuple[Augmentation, ...]
    kinds: tuple[tuple[type[Kind], Any], ...]
    scorers: tuple[ScorerSpec, ...]

    @classmethod
    def of(
        cls, augmentations: Choices, kinds: Choices, scorers: Choices, preset: Preset, encoder: str = "auto"
    ) -> "Plan":
        """Check a request.

        Args:
            augmentations: names or classes (their default grids), or {name or class: [hyperparameters]}.
            kinds: names or classes of detectors, or {name or class: [settings that differ from the preset's]}.
            scorers: names or classes, or {name or class: [settings]}.
            preset: what every kind takes its settings from.
            encoder: of the kinds that have a setting for it; "auto": their own.
        Raises:
            InputError: for unknown names and for grids that are empty, ill-formed or infeasible.
        """
        return cls(
            tuple(_augmentations(augmentations, preset.image_size)),
            tuple(_kinds(kinds, preset, encoder)),
            tuple(_distinct(ScorerSpec.of(name, cell) for name, cell in _cells("scorers", scorers))),
        )

    def candidates(self, seed: int) -> list[Candidate]:
        """Every combination, in order, each once; kinds that take no augmentation come last."""
        combinations: list[tuple[type[Kind], Any, Augmentation | None]] = [
            (kind, settings, augmentation)
            for augmentation in self.augmentations
            for kind, settings in self.kinds
            if kind.uses_augmentation
        ]
        combinations += [(kind, settings, None) for kind, settings in self.kinds if not kind.uses_augmentation]
        candidates = [
            Candidate(training_of(kind, settings, augmentation, seed), scorer)
            for kind, settings, augmentation in combinations
            for scorer in self.scorers
        ]
        return list({candidate.id: candidate for candidate in candidates}.values())


def training_of(kind: type[Kind], settings: Any, augmentation: Augmentation | None, seed: int) -> Training:
    """The training of one combination."""
    if augmentation is None:
        return Training(kind.reference(), settings, None, (), seed)
    name = augmentations.reference(type(augmentation))
    return Training(kind.reference(), settings, name, tuple(augmentation.hyperparameters().items()), seed)


def _augmentations(choices: Choices, image_size: int) -> Iterable[Augmentation]:
    for name, cell in _cells("augmentations", choices, augmentations.grid):
        augmentation = augmentations.make(name, **cell)
        for part in (augmentation, *augmentation.parts):
            part.check((image_size, image_size))
        yield augmentation


def _kinds(choices: Choices, preset: Preset, encoder: str) -> list[tuple[type[Kind], Any]]:
    kinds, is_used = [], encoder == "auto"
    for name, cell in _cells("detectors", choices):
        kind = detectors.get(name)
        settings = kind.settings_for(preset)
        for setting in cell:
            if not hasattr(settings, setting):
                raise unknown_name(f"setting of detector {kind.name!r}", setting, list(vars(settings)))
        if encoder != "auto" and hasattr(settings, "encoder"):
            is_used, cell = True, {"encoder": encoder, **cell}
        kinds.append((kind, replace(settings, **cell)))
    if not is_used:
        raise InputError(f"encoder={encoder!r}", "is not a setting of any of the detectors", "leave it out")
    return kinds


def _cells(what: str, choices: Choices, default: Any = lambda name: [{}]) -> list[tuple[Any, Mapping[str, Any]]]:
    """Every name or class with each of its settings, in order."""
    if isinstance(choices, (str, type)):
        choices = [choices]
    if isinstance(choices, (set, frozenset)):
        choices = sorted(choices, key=str)  # the order of a set differs from process to process
    listed = dict(choices) if isinstance(choices, Mapping) else {name: default(name) for name in _names(what, choices)}
    if not listed:
        raise _no_names(what, choices)
    for name, cells in listed.items():
        if not cells:
            raise InputError(f"{what}: the grid of {name!r}", "is empty", "give one dict of settings or more")
        if not isinstance(cells, Sequence) or not all(isinstance(cell, Mapping) for cell in cells):
            raise InputError(f"{what}: the grid of {name!r}", "must be a list of dicts", f"try {{{name!r}: [{{}}]}}")
    return [(name, cell) for name, cells in listed.items() for cell in cells]


def _names(what: str, choices: Any) -> list[Any]:
    if not isinstance(choices, Iterable):
        raise _no_names(what, choices)
    return list(choices)


def _no_names(what: str, choices: Any) -> InputError:
    return InputError(
        f"{what}={choices!r}", "must be a non-empty sequence of names", f"give names or classes of {what}"
    )


def _distinct(specs: Iterable[ScorerSpec]) -> list[ScorerSpec]:
    return list(dict.fromkeys(specs))
