"""Which candidates a request means: every augmentation, kind and scorer of it with each of their settings."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, fields, replace
from typing import Any

import augmentations
import detectors
from augmentations import Augmentation, InputError
from augmentations.errors import require_json, unknown_name
from detectors import Kind, Preset, ScorerSpec
from detectors.encoders import EncoderSpec
from selector.zoo.candidates import Candidate, Training

LARGEST_DETOUR = 2  # times what kinds need is read at most, so that their sizes fit together

# Names or classes, each with what it is by default, or {name or class: [settings]}.
Choices = Mapping[Any, Sequence[Mapping[str, Any]]] | Iterable[Any]


@dataclass(frozen=True)
class Request:
    """Part of a zoo, as a user writes it: every augmentation with every kind with every scorer."""

    augmentations: Choices
    detectors: Choices
    scorers: Choices


@dataclass(frozen=True)
class Block:
    """Part of a zoo, checked: the augmentations, the kinds with their settings, and the scorers."""

    augmentations: tuple[Augmentation, ...]
    kinds: tuple[tuple[type[Kind], Any], ...]
    scorers: tuple[ScorerSpec, ...]

    def combinations(self) -> Iterator[tuple[type[Kind], Any, Augmentation | None]]:
        """Kind, settings and augmentation, in order; kinds that take no augmentation come last."""
        for augmentation in self.augmentations:
            for kind, settings in self.kinds:
                if kind.uses_augmentation:
                    yield kind, settings, augmentation
        for kind, settings in self.kinds:
            if not kind.uses_augmentation:
                yield kind, settings, None


@dataclass(frozen=True)
class Plan:
    """What candidates are made of.

    image_size: side in pixels at which the images of the run are read, the same for all kinds: the least that shows
    each of them what it needs.
    """

    blocks: tuple[Block, ...]
    image_size: int

    @classmethod
    def of(
        cls, augmentations: Choices, kinds: Choices, scorers: Choices, preset: Preset, encoder: Any = "auto"
    ) -> "Plan":
        """Check one request.

        Args:
            augmentations: names or classes (their default grids), or {name or class: [hyperparameters]}.
            kinds: names or classes of detectors, or {name or class: [settings that differ from the preset's]}.
            scorers: names or classes, or {name or class: [settings]}.
            preset: what every kind takes its settings from.
            encoder: of the kinds that have a setting for it, as ``EncoderSpec.of`` takes it; "auto": their own.
        Raises:
            InputError: for unknown names and for grids that are empty, ill-formed or infeasible.
        """
        return cls.joined([Request(augmentations, kinds, scorers)], preset, encoder)

    @classmethod
    def joined(cls, requests: Sequence[Request], preset: Preset, encoder: Any = "auto") -> "Plan":
        """Check several requests, which make one zoo. Raises InputError as ``of`` does."""
        blocks = [
            Block(
                tuple(_augmentations(request.augmentations, preset.image_size)),
                tuple(_kinds(request.detectors, preset, encoder)),
                tuple(_distinct(ScorerSpec.of(name, cell) for name, cell in _cells("scorers", request.scorers))),
            )
            for request in requests
        ]
        for block in blocks:
            for kind, _, augmentation in block.combinations():
                if augmentation is not None:
                    kind.require_space(type(augmentation))
        size = _common_size([pair for block in blocks for pair in block.kinds])
        fitted = (replace(block, kinds=tuple((k, _at_size(s, size)) for k, s in block.kinds)) for block in blocks)
        return cls(tuple(fitted), size)

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """Those of all blocks, each once."""
        return tuple(dict.fromkeys(augmentation for block in self.blocks for augmentation in block.augmentations))

    @property
    def kinds(self) -> tuple[tuple[type[Kind], Any], ...]:
        """Those of all blocks with their settings, each once."""
        return tuple(dict.fromkeys(pair for block in self.blocks for pair in block.kinds))

    @property
    def scorers(self) -> tuple[ScorerSpec, ...]:
        """Those of all blocks, each once."""
        return tuple(dict.fromkeys(scorer for block in self.blocks for scorer in block.scorers))

    @property
    def encoders(self) -> tuple[EncoderSpec, ...]:
        """Those that kinds have as a setting, each once."""
        named = (settings.encoder for _, settings in self.kinds if hasattr(settings, "encoder"))
        return tuple(dict.fromkeys(EncoderSpec.of(encoder) for encoder in named))

    def candidates(self, seed: int) -> list[Candidate]:
        """Every combination of every block, in order, each once; with the first scorer alone where none is used."""
        candidates: dict[str, Candidate] = {}
        for block in self.blocks:
            for kind, settings, augmentation in block.combinations():
                training = training_of(kind, settings, augmentation, seed)
                for scorer in block.scorers:
                    candidate = Candidate(training, scorer)
                    candidates.setdefault(candidate.id if kind.uses_scorer(settings) else training.id, candidate)
        return list(candidates.values())


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


def _kinds(choices: Choices, preset: Preset, encoder: Any) -> list[tuple[type[Kind], Any]]:
    is_auto = isinstance(encoder, str) and encoder == "auto"
    kinds, is_used = [], is_auto
    for name, cell in _cells("detectors", choices):
        kind = detectors.get(name)
        settings = kind.settings_for(preset)
        known = {field.name: field for field in fields(settings)}
        for setting, value in cell.items():
            if setting not in known:
                raise unknown_name(f"setting of detector {kind.name!r}", setting, list(known))
            _check_type(kind, known[setting], value)
        if not is_auto and "encoder" in known:
            is_used, cell = True, {"encoder": encoder, **cell}
        try:
            chosen = replace(settings, **cell)
        except TypeError as error:
            rule = f"are of a type that it does not take ({error})"
            raise InputError(f"settings {cell!r} of detector {kind.name!r}", rule, "give values as JSON") from error
        require_json(f"detector {kind.name!r}", asdict(chosen))
        kinds.append((kind, chosen))
    if not is_used:
        raise InputError(f"encoder={encoder!r}", "is not a setting of any of the detectors", "leave it out")
    return kinds


def _common_size(kinds: Sequence[tuple[type[Kind], Any]]) -> int:
    """Side in pixels that serves all kinds: at least what each needs, and a multiple of what is reduced to fit."""
    least = max(kind.needs(settings) for kind, settings in kinds)
    reduced = [settings.image_size for _, settings in kinds if hasattr(settings, "reduction")]
    step = math.lcm(*reduced) if reduced else 1
    size = -(-least // step) * step
    if size > LARGEST_DETOUR * least:
        sizes = ", ".join(map(str, sorted(set(reduced))))
        rule = f"have no common multiple near the {least} px that a kind of the zoo needs"
        raise InputError(f"image sizes {sizes} of detectors", rule, "choose sizes such as 64 and 128")
    return size


def _at_size(settings: Any, size: int) -> Any:
    """The settings of a kind in a run whose images are read at ``size`` px."""
    if hasattr(settings, "reduction"):
        return replace(settings, reduction=size // settings.image_size)
    return replace(settings, image_size=size)


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
