"""Which candidates a request means: every augmentation, kind and scorer of it with each of their settings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, fields, replace
from typing import Any

import augmentations
import detectors
from augmentations import Augmentation, InputError
from augmentations.errors import require_json, unknown_name
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
        known = {field.name: field for field in fields(settings)}
        for setting, value in cell.items():
            if setting not in known:
                raise unknown_name(f"setting of detector {kind.name!r}", setting, list(known))
            _check_type(kind, known[setting], value)
        if encoder != "auto" and "encoder" in known:
            is_used, cell = True, {"encoder": encoder, **cell}
        try:
            chosen = replace(settings, **cell)
        except TypeError as error:
            rule = f"are of a type that it does not take ({error})"
            raise InputError(f"settings {cell!r} of detector {kind.name!r}", rule, "give values as JSON") from error
        if chosen.image_size != preset.image_size:
            rule = f"must be the {preset.image_size} px at which the images of the run are read"
            remedy = f"leave it out, or choose image_size={chosen.image_size} for the run"
            raise InputError(f"detector {kind.name!r}: image_size={chosen.image_size}", rule, remedy)
        require_json(f"detector {kind.name!r}", asdict(chosen))
        kinds.append((kind, chosen))
    if not is_used:
        raise InputError(f"encoder={encoder!r}", "is not a setting of any of the detectors", "leave it out")
    return kinds


def _check_type(kind: type[Kind], setting: Field[Any], value: Any) -> None:
    """Refuse a value of another type than the setting is annotated with, where that is a number or a text."""
    types = {"bool": (bool, "True or False"), "int": (int, "a whole number"), "float": (int | float, "a number")}
    name = setting.type if isinstance(setting.type, str) else getattr(setting.type, "__name__", "")
    allowed, rule = (types | {"str": (str, "a text")}).get(name, (object, ""))
    is_truth = isinstance(value, bool) and name in ("int", "float")  # which Python counts among the numbers
    if is_truth or not isinstance(value, allowed):
        raise InputError(f"detector {kind.name!r}: {setting.name}={value!r}", f"must be {rule}", "give one")


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
        for setting in (setting for cell in cells for setting in cell):
            if not isinstance(setting, str):
                raise InputError(f"{what}: {setting!r} of {name!r}", "is no name of a setting", "give a text")
    return [(name, cell) for name, cells in listed.items() for cell in cells]


def _names(what: str, choices: Any) -> list[Any]:
    if not isinstance(choices, Iterable):
        raise _no_names(what, choices)
    try:
        names = list(choices)
    except TypeError as error:  # a tensor of one number, which says that it can be iterated over
        raise _no_names(what, choices) from error
    for name in names:
        if not _is_hashable(name):
            remedy = "write one mapping of names to lists of settings, without a list around it"
            raise InputError(f"{what}: {name!r}", "must be a name or a class", remedy)
    return names


def _is_hashable(name: Any) -> bool:
    try:
        hash(name)
    except TypeError:
        return False
    return True


def _no_names(what: str, choices: Any) -> InputError:
    return InputError(
        f"{what}={choices!r}", "must be a non-empty sequence of names", f"give names or classes of {what}"
    )


def _distinct(specs: Iterable[ScorerSpec]) -> list[ScorerSpec]:
    return list(dict.fromkeys(specs))
