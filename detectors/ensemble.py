"""Several detectors as one: an image is as anomalous as the member finds it that finds it most anomalous.

What stands out differs between members, and each is blind to some kinds of anomaly: an average lets those that see
nothing outvote the one that does. So distances are told in multiples of what normal images have on average, and the
highest counts: Roy's union-intersection principle ("On a heuristic method of test construction", 1953).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor

import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors.base import Detector, Images, as_images, pieces
from detectors.classifier import within
from detectors.files import State

HELD_OUT = 0.15  # of the images that ``fit`` is given: what is normal is measured on what members never saw


def highest(distances: Sequence[Tensor], normal: Sequence[float]) -> Tensor:
    """The highest of the members' distances of the same images, any shape, each in multiples of its ``normal``."""
    return torch.stack([values / mean for values, mean in zip(distances, normal, strict=True)]).amax(0)


class Ensemble(Detector):
    """Detectors of which the one counts that finds an image, or a pixel, farthest from normal.

    score, score_map: the highest of the members' (``highest``), in multiples of the mean score of held-out normal
    images and of the mean over all pixels of their maps. embed: the members' embeddings side by side, of unit norm.
    pseudo_anomalies: of the members in turns.
    """

    name = "ensemble"
    score_is_distance = True

    # Absent until there is something to measure by: a number a member.
    normal: tuple[float, ...]
    normal_in_maps: tuple[float, ...]

    def __init__(self, members: Sequence[Detector]) -> None:
        """Of members that ``fit`` will train; ``of`` takes trained ones.

        Raises InputError for no member, and for one whose scores are no distances: they have no multiples.
        """
        if not members:
            raise InputError("an ensemble of 0 detectors", "must have a member at least", "give it a detector")
        for member in members:
            if not member.score_is_distance:
                raise InputError(f"member {member.name!r}", "must give distances", "leave it out of the ensemble")
        self.members = tuple(members)
        self.device = members[0].device

    @classmethod
    def of(cls, members: Sequence[Detector], images: Images) -> Self:
        """An ensemble of trained members, measured by normal images that none of them learned from.

        Raises InputError as the constructor does, and FloatingPointError for a mean that nothing can be measured by.
        """
        made, whole = cls(members), as_images(images)
        means = [_means(member, whole) for member in members]
        return made.measured_by([score for score, _ in means], [in_map for _, in_map in means])

    def measured_by(self, normal: Sequence[float], normal_in_maps: Sequence[float]) -> Self:
        """This ensemble of trained members, told what is normal for each. Raises InputError for others' numbers."""
        if not len(self.members) == len(normal) == len(normal_in_maps):
            rule = f"must be of its {len(self.members)} members"
            raise InputError(f"{len(normal)} and {len(normal_in_maps)} means of normal images", rule, "give one each")
        self.channels, self.normal, self.normal_in_maps = self.members[0].channels, tuple(normal), tuple(normal_in_maps)
        return self

    def fit(self, images: Images, *, on_progress: Callable[[int, float], None] | None = None) -> Self:
        """Train every member on 85% of normal images and measure by the rest; steps are counted over all members.

        Raises as members do.
        """
        whole = as_images(images)
        order = torch.randperm(len(whole), generator=generator(0, "ensemble"))
        held_out = order[: max(1, round(HELD_OUT * len(whole)))]
        rest = torch.ones(len(whole), dtype=torch.bool)
        rest[held_out] = False
        before = last = 0

        def told(step: int, loss: float) -> None:
            nonlocal last
            last = before + step
            if on_progress is not None:
                on_progress(last, loss)

        for member in self.members:
            member.fit(whole[rest], on_progress=told)
            before = last
        trained = self.of(self.members, whole[held_out])
        return self.measured_by(trained.normal, trained.normal_in_maps)

    def embed(self, images: Images) -> Tensor:
        return torch.nn.functional.normalize(torch.cat([member.embed(images) for member in self.members], 1), dim=1)

    def score(self, images: Images) -> Tensor:
        self._require_normal()
        return highest([member.score(images) for member in self.members], self.normal)

    def score_map(self, images: Images) -> Tensor:
        self._require_normal()
        return self._highest_map(member.score_map(images) for member in self.members)

    def score_and_map(self, images: Images) -> tuple[Tensor, Tensor]:
        self._require_normal()
        scores: list[Tensor] = []

        def maps() -> Iterator[Tensor]:
            for member in self.members:
                score, in_map = member.score_and_map(images)
                scores.append(score)
                yield in_map

        found = self._highest_map(maps())
        return highest(scores, self.normal), found

    def _highest_map(self, maps: Iterable[Tensor]) -> Tensor:
        """``highest``, a member at a time: no more than three maps of an image are in memory."""
        found: Tensor | None = None
        for in_map, mean in zip(maps, self.normal_in_maps, strict=True):
            found = in_map / mean if found is None else torch.maximum(found, in_map / mean)
        assert found is not None
        return found

    def pseudo_anomalies(self, images: Images, generator: torch.Generator) -> Tensor:
        whole = as_images(images)
        made = torch.empty(whole.shape)
        for turn, member in enumerate(self.members[: len(whole)]):
            rows = slice(turn, None, len(self.members))
            made[rows] = member.pseudo_anomalies(whole[rows], generator)
        return made

    def state(self) -> State:
        self._require_normal()
        states = [member.state() for member in self.members]
        settings: dict[str, Any] = {
            "detector": self.name,
            "members": [state.settings for state in states],
            "normal": self.normal,
            "normal_in_maps": self.normal_in_maps,
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
            return cls(members).measured_by(saved["normal"], saved["normal_in_maps"])
        except (KeyError, TypeError) as error:
            reason = f"is not whole ({type(error).__name__}: {error})"
            raise InputError("a saved ensemble", reason, "make and save it again") from error

    def _require_normal(self) -> None:
        if not hasattr(self, "normal"):
            raise InputError("this ensemble", "has not learned what is normal yet", "call fit(images), or Ensemble.of")


def _means(member: Detector, images: Tensor) -> tuple[float, float]:
    """The mean of a member's scores of images, and of their maps' pixels."""
    totals = torch.zeros(2, dtype=torch.float64)
    for piece in pieces(images):
        score, in_map = member.score_and_map(piece)
        totals += torch.stack([score.double().sum(), in_map.double().mean((1, 2)).sum()])
    score, in_map = (totals / len(images)).tolist()
    if not (0 < score < math.inf and 0 < in_map < math.inf):
        raise FloatingPointError(f"the mean distance of normal images is {score:g}, in maps {in_map:g}: no measure")
    return score, in_map
