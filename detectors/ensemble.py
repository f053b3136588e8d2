"""Several detectors as one: an image is as anomalous as the member finds it that finds it most anomalous.

What stands out differs between members, and each is blind to some kinds of anomaly: an average lets those that see
nothing outvote the one that does. So scores are brought to one unit, how far they lie above those of held-out normal
images, and the highest counts: Roy's union-intersection principle ("On a heuristic method of test construction", 1953).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors.base import Detector, Images, as_images, pieces
from detectors.classifier import within
from detectors.files import State

HELD_OUT = 0.15  # of the images that ``fit`` is given: members' units are measured on what they never saw


@dataclass(frozen=True)
class Unit:
    """What a score is measured in: mean and standard deviation over normal images, of distances of their logarithms."""

    location: float
    scale: float
    distance: bool

    @classmethod
    def of(cls, batches: Sequence[Tensor], distance: bool) -> "Unit":
        """From the scores of normal images. Raises FloatingPointError for scores that are not finite, or all equal."""
        values = [_enter(batch, distance).double() for batch in batches]
        n = sum(batch.numel() for batch in values)
        location = sum(float(batch.sum()) for batch in values) / n
        variance = sum(float((batch - location).square().sum()) for batch in values) / n
        if not 0 < variance < torch.inf:
            raise FloatingPointError("the scores of normal images are all equal or not finite, so they have no unit")
        return cls(location, variance**0.5, distance)

    def measure(self, scores: Tensor) -> Tensor:
        """Scores of any shape as standard deviations above the location."""
        return (_enter(scores, self.distance) - self.location) / self.scale


def _enter(scores: Tensor, distance: bool) -> Tensor:
    # A distance of 0 is as normal as can be, and no logarithm.
    return scores.clamp_min(torch.finfo(scores.dtype).tiny).log() if distance else scores


def highest(scores: Sequence[Tensor], units: Sequence[Unit]) -> Tensor:
    """The highest of the members' scores of the same images, each in its unit; any shape, one for all."""
    return torch.stack([unit.measure(values) for values, unit in zip(scores, units, strict=True)]).amax(0)


class Ensemble(Detector):
    """Detectors whose highest score counts, in standard deviations of held-out normal images' scores.

    score, score_map: the highest of the members' (``highest``); a map's unit is that of all pixels of normal images.
    embed: the members' embeddings side by side, as long as one. pseudo_anomalies: of the members in turns.
    """

    name = "ensemble"
    score_is_distance = False

    def __init__(self, members: Sequence[Detector]) -> None:
        """Of members that ``fit`` will train; ``of`` takes trained ones. Raises InputError for none."""
        if not members:
            raise InputError("an ensemble of 0 detectors", "must have a member at least", "give it a detector")
        self.members = tuple(members)
        self.device = members[0].device
        self.units: tuple[Unit, ...] = ()
        self.map_units: tuple[Unit, ...] = ()

    @classmethod
    def of(cls, members: Sequence[Detector], normal: Images) -> Self:
        """An ensemble of trained members, their units measured on ``normal`` images that none of them learned from.

        Raises InputError for no member, FloatingPointError where a member gives all normal images one score.
        """
        made = cls(members)
        whole = as_images(normal)
        made.channels = whole.shape[1]
        found = [_units(member, whole) for member in members]
        made.units, made.map_units = tuple(unit for unit, _ in found), tuple(unit for _, unit in found)
        return made

    def fit(self, images: Images, *, on_progress: Callable[[int, float], None] | None = None) -> Self:
        """Train every member on 85% of normal images and measure the units on the rest. Raises as members do."""
        whole = as_images(images)
        order = torch.randperm(len(whole), generator=generator(0, "ensemble"))
        held_out = order[: max(2, round(HELD_OUT * len(whole)))]
        rest = torch.ones(len(whole), dtype=torch.bool)
        rest[held_out] = False
        for member in self.members:
            member.fit(whole[rest], on_progress=on_progress)
        made = self.of(self.members, whole[held_out])
        self.channels, self.units, self.map_units = made.channels, made.units, made.map_units
        return self

    def embed(self, images: Images) -> Tensor:
        return torch.nn.functional.normalize(torch.cat([member.embed(images) for member in self.members], 1), dim=1)

    def score(self, images: Images) -> Tensor:
        self._require_units()
        return highest([member.score(images) for member in self.members], self.units)

    def score_map(self, images: Images) -> Tensor:
        return self.score_and_map(images)[1]

    def score_and_map(self, images: Images) -> tuple[Tensor, Tensor]:
        self._require_units()
        scores, maps = [], None
        # A member at a time, so that no more than two maps of an image are in memory.
        for member, unit in zip(self.members, self.map_units, strict=True):
            score, of_member = member.score_and_map(images)
            scores.append(score)
            measured = unit.measure(of_member)
            maps = measured if maps is None else torch.maximum(maps, measured)
        assert maps is not None
        return highest(scores, self.units), maps

    def pseudo_anomalies(self, images: Images, generator: torch.Generator) -> Tensor:
        made = as_images(images).float()
        for turn, member in enumerate(self.members):
            rows = slice(turn, None, len(self.members))
            if len(made[rows]):
                made[rows] = member.pseudo_anomalies(as_images(images)[rows], generator)
        return made

    def state(self) -> State:
        self._require_units()
        states = [member.state() for member in self.members]
        settings: dict[str, Any] = {
            "detector": self.name,
            "channels": self.channels,
            "members": [state.settings for state in states],
            "units": [vars(unit) for unit in self.units],
            "map_units": [vars(unit) for unit in self.map_units],
        }
        trained, scorer = (
            {f"{i}.{name}": tensor for i, state in enumerate(states) for name, tensor in getattr(state, part).items()}
            for part in ("trained", "scorer")
        )
        return State(settings, trained, scorer)

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> Self:
        """The ensemble whose ``state`` this is. Raises InputError when a part is missing or does not fit."""
        saved = state.settings
        try:
            members = [
                detectors.get(settings["detector"]).from_state(
                    State(settings, within(state.trained, f"{i}."), within(state.scorer, f"{i}.")), device
                )
                for i, settings in enumerate(saved["members"])
            ]
            made = cls(members)
            made.channels = saved["channels"]
            made.units, made.map_units = (
                tuple(Unit(**unit) for unit in saved[part]) for part in ("units", "map_units")
            )
            if {len(made.units), len(made.map_units)} != {len(members)}:
                raise ValueError("a unit is missing")
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            reason = f"is not whole ({type(error).__name__}: {error})"
            raise InputError("a saved ensemble", reason, "make and save it again") from error
        return made

    def _require_units(self) -> None:
        if not self.units:
            raise InputError("this ensemble", "has no units yet", "call fit(images), or make it with Ensemble.of")


def _units(member: Detector, images: Tensor) -> tuple[Unit, Unit]:
    """The units of a member's scores and of its maps' pixels."""
    found = [member.score_and_map(piece) for piece in pieces(images)]
    scores, maps = zip(*found, strict=True)
    return Unit.of(scores, member.score_is_distance), Unit.of(maps, member.score_is_distance)
