"""One-class scorers: what turns the features of normal images into an anomaly score."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from augmentations import InputError
from augmentations.errors import require_json, unknown_name
from augmentations.references import checked, declared, reference_of, resolve
from detectors.scorers.base import Scorer
from detectors.scorers.gaussian import Gaussian, GaussianPerLocation
from detectors.scorers.kde import KDE
from detectors.scorers.knn import NearestNeighbours
from detectors.scorers.ocsvm import OCSVM, LinearOCSVM

__all__ = [
    "KDE",
    "OCSVM",
    "SCORERS",
    "Gaussian",
    "GaussianPerLocation",
    "LinearOCSVM",
    "NearestNeighbours",
    "Scorer",
    "ScorerSpec",
    "get",
    "make",
    "names",
]

REGISTERED: tuple[type[Scorer], ...] = (Gaussian, KDE, OCSVM, LinearOCSVM, NearestNeighbours)
SCORERS: dict[str, type[Scorer]] = {scorer.name: scorer for scorer in REGISTERED}


def names() -> list[str]:
    """The registered scorers."""
    return list(SCORERS)


def get(scorer: str | type[Scorer]) -> type[Scorer]:
    """The scorer class of a registered name, of a reference "module:Class", or the class itself.

    Raises:
        InputError: for an unknown name, a class that is no scorer or declares no name, or one that can't be imported
            again by another process.
    """
    if isinstance(scorer, str) and scorer in SCORERS:
        return SCORERS[scorer]
    if isinstance(scorer, str) and ":" not in scorer:
        raise unknown_name("scorer", scorer, names())
    if isinstance(scorer, str):
        kind = resolve(scorer, Scorer, "scorer")  # type: ignore[type-abstract]
    else:
        kind = checked(scorer, Scorer, "scorer")  # type: ignore[type-abstract]
        reference_of(kind)
    declared(kind, "scorer", name=str)
    return kind


def make(scorer: str | type[Scorer], **settings: Any) -> Scorer:
    """A scorer with these settings, not fitted yet.

    Raises:
        InputError: for an unknown name and for settings that it does not take.
    """
    kind = get(scorer)
    try:
        return kind(**settings)
    except TypeError as error:
        raise InputError(
            f"scorer {kind.name!r} with {settings!r}", f"is not possible ({error})", "see its settings"
        ) from error


@dataclass(frozen=True)
class ScorerSpec:
    """Which scorer, with which settings: JSON, and enough to make an equal one."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, scorer: "str | type[Scorer] | ScorerSpec", settings: Mapping[str, Any] | None = None) -> Self:
        """The specification of a name, a class, or a specification; checked by making the scorer once.

        Raises:
            InputError: as ``make`` does, and for settings that are no JSON or that the scorer does not pass on.
        """
        if isinstance(scorer, ScorerSpec):
            return cls.of(scorer.name, scorer.settings)
        kind = get(scorer)
        made = make(kind, **(settings or {}))
        lost = [setting for setting in settings or {} if setting not in made.settings]
        if lost:
            rule = f"loses its settings {', '.join(lost)}, so that another process would make another one"
            raise InputError(f"scorer {kind.name!r}", rule, "pass them on: super().__init__(...) in its __init__")
        require_json(f"scorer {kind.name!r}", made.settings)
        name = kind.name if SCORERS.get(kind.name) is kind else reference_of(kind)
        return cls(name, dict(made.settings))

    @property
    def kind(self) -> type[Scorer]:
        """The class."""
        return get(self.name)

    def make(self, *, per_location: bool = False) -> Scorer:
        """A scorer of this specification, or its form with one model for each location, not fitted yet."""
        kind = self.kind.per_location if per_location else self.kind
        assert kind is not None
        return kind(**self.settings)

    def describe(self, in_full: bool = False) -> str:
        """The name, and the settings that are not those of a registered scorer by default: ``knn (k 5)``.

        ``in_full``: with the module of the class.
        """
        shown = self.name if in_full else self.name.rpartition(":")[2]
        usual = SCORERS[self.name]().settings if self.name in SCORERS else {}
        settings = ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.settings.items()
            if name not in usual or usual[name] != value
        )
        return f"{shown} ({settings})" if settings else shown

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "settings": dict(self.settings)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(values["name"], values["settings"])

    def __hash__(self) -> int:
        return hash((self.name, repr(sorted(self.settings.items()))))
