"""Several detectors as one: the score of an image is the maximum of the members' normalised scores, or their mean.

Each member misses some kinds of anomaly, and in an average those that miss one outvote the one that finds it. Scores
are therefore normalised by those of normal images, and the maximum is taken: Roy's union-intersection principle ("On a
heuristic method of test construction", 1953). The mean of a few members, all of them good, is steadier.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from augmentations import InputError
from augmentations.errors import unknown_name
from augmentations.randomness import generator
from detectors import registry
from detectors.base import Detector, Progress
from detectors.files import State
from detectors.frozen_levels import LevelsModule
from detectors.images import Images, as_images
from detectors.kind import ENCODER, strip_prefix
from detectors.scoring import ScoringModule
from detectors.shared_encoders import encoder_owners, share_encoders
from detectors.shared_features import Levels

HELD_OUT = 0.15  # of the images that ``fit`` is given: scores are normalised by what members never saw
UPPER = 0.95  # the quantile of normal scores that is 1 after normalisation, where scores are not distances
COMBINATIONS = MAX, MEAN = "max", "mean"
FEW = 4  # members whose mean is taken; of three it lost less on `development-auto` than their maximum
MAX_PIXELS = 2**22  # of normal maps, evenly spaced, that quantiles are taken of


class Normalization(NamedTuple):
    """What makes the scores of different detectors comparable: ``(score - location) / scale``.

    is_logarithmic: whether that is of the scores' logarithms.
    """

    location: float
    scale: float
    is_logarithmic: bool = False

    @classmethod
    def of(cls, scores: Tensor, is_distance: bool) -> Self:
        """From the scores of held-out normal images, any shape, where all members score alike.

        Distances are measured in multiples of their mean; other scores as ``robust`` measures them.

        Raises:
            FloatingPointError: where these are not finite or leave nothing to divide by.
        """
        if not is_distance:
            return cls.robust(scores, is_distance)
        return cls._checked(0.0, scores.detach().double().mean().item())

    @classmethod
    def robust(cls, scores: Tensor, is_distance: bool) -> Self:
        """From the scores of held-out normal images, any shape, where members score in ways of their own.

        Their median is 0 and their .95 quantile 1, which no change of scale or offset moves; where both are the same,
        as of maps that are 0 nearly everywhere or of two images, their range is 1. Of distances that is said of the
        logarithm: in multiples of the mean, the member whose distances vary most among normal images would speak alone.

        Raises:
            FloatingPointError: where these are not finite or leave nothing to divide by.
        """
        values = scores.detach().double().flatten()
        ordered = (_logarithm(values) if is_distance else values).sort().values
        location = ordered[len(ordered) // 2].item()
        scale = ordered[min(len(ordered) - 1, math.ceil(UPPER * len(ordered)))].item() - location
        return cls._checked(location, scale or (ordered[-1] - ordered[0]).item(), is_distance)

    @classmethod
    def _checked(cls, location: float, scale: float, is_logarithmic: bool = False) -> Self:
        if not (math.isfinite(location) and 0 < scale < math.inf):
            raise FloatingPointError(
                f"normal images score {location:g} with a scale of {scale:g}, so they can't be normalised"
            )
        return cls(location, scale, is_logarithmic)

    def apply(self, scores: Tensor) -> Tensor:
        """The normalised scores."""
        return ((_logarithm(scores) if self.is_logarithmic else scores) - self.location) / self.scale


def _logarithm(distances: Tensor) -> Tensor:
    """Of 0 that of the least positive number: it is far below all others, and finite."""
    return distances.clamp(min=torch.finfo(torch.float32).tiny).log()


def normalizations(
    scores: Sequence[Tensor], are_distances: Sequence[bool], kinds: Sequence[Hashable]
) -> list[Normalization]:
    """What makes the scores of members comparable, from those of held-out normal images.

    Args:
        scores: of each member, any shape.
        are_distances: of each member, whether its scores are.
        kinds: of each member, what its scores are (``Detector.kind_of_scores``). Members of one kind are compared as
            ``Normalization.of`` does, by multiples of the mean if all are distances; those of several as
            ``Normalization.robust``.

    Raises:
        FloatingPointError: as these do.
    """
    if len(set(kinds)) == 1:
        return [Normalization.of(values, all(are_distances)) for values in scores]
    return [
        Normalization.robust(values, is_distance) for values, is_distance in zip(scores, are_distances, strict=True)
    ]


def combination(n_members: int) -> str:
    """How so many members are combined where nothing else is said: a few by their mean, more by their maximum."""
    return MEAN if n_members <= FEW else MAX


def combine_normalized(
    scores: Iterable[Tensor], normalizations: Sequence[Normalization], combine: str | None = None
) -> Tensor:
    """The members' scores of the same images, any shape, each normalised: their maximum or their mean, or whichever
    ``combination`` says."""
    combine = combine or combination(len(normalizations))
    total: Tensor | None = None
    for values, normalization in zip(scores, normalizations, strict=True):
        normalized = normalization.apply(values)
        if total is None:
            total = normalized
        else:
            total = torch.maximum(total, normalized) if combine == MAX else total + normalized
    assert total is not None
    return total if combine == MAX else total / len(normalizations)


class EnsembleModule(ScoringModule):
    """The scoring graphs of all members side by side; an encoder that several have sees a batch once."""

    def __init__(
        self,
        members: Sequence[ScoringModule],
        normalizations: Sequence[Normalization],
        map_normalizations: Sequence[Normalization],
        combine: str = MAX,
    ) -> None:
        super().__init__()
        self.combine = combine
        self.members: Sequence[ScoringModule] = nn.ModuleList(members)  # type: ignore[assignment]
        self.normalizations, self.map_normalizations = tuple(normalizations), tuple(map_normalizations)
        # For each member the first with its encoder: found here, for tracing shows stand-ins of modules.
        encoders = [getattr(member, "encoder", member) for member in members]
        self.owners = [next(i for i, other in enumerate(encoders) if other is encoder) for encoder in encoders]

    def features(self, images: Tensor) -> list[Any]:
        """What each member computes from the images."""
        levels: dict[int, Levels] = {}
        features = []
        for member, owner in zip(self.members, self.owners, strict=True):
            if isinstance(member, LevelsModule):
                if owner not in levels:
                    levels[owner] = member.levels(images)
                features.append(member.from_levels(levels[owner]))
            else:
                features.append(member.features(images))
        return features

    def embed(self, features: list[Any]) -> Tensor:
        embeddings = [member.embed(own) for member, own in zip(self.members, features, strict=True)]
        return nn.functional.normalize(torch.cat(embeddings, 1), dim=1)

    def score(self, features: list[Any]) -> Tensor:
        scores = (member.score(own) for member, own in zip(self.members, features, strict=True))
        return combine_normalized(scores, self.normalizations, self.combine)

    def map(self, features: list[Any], size: tuple[int, int]) -> Tensor:
        maps = (member.map(own, size) for member, own in zip(self.members, features, strict=True))
        return combine_normalized(maps, self.map_normalizations, self.combine)

    def score_and_map(self, features: list[Any], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        pairs = (member.score_and_map(own, size) for member, own in zip(self.members, features, strict=True))
        scores, maps = zip(*pairs, strict=True)
        return (
            combine_normalized(scores, self.normalizations, self.combine),
            combine_normalized(maps, self.map_normalizations, self.combine),
        )


class Ensemble(Detector):
    """Several detectors as one, whose score of an image, or of a pixel, is the maximum over its members, or the mean.

    score, score_map: the maximum or mean of the members', each normalised by scores and maps of held-out normal images
    (``normalizations``). embed: the members' embeddings side by side, of unit norm. pseudo_anomalies: of the members
    that have any, in turns. Members whose encoders stay as they were built, and are equal, have one between them.
    """

    name = "ensemble"

    # Absent until there is something to normalise by: one per member.
    normalizations: tuple[Normalization, ...]
    map_normalizations: tuple[Normalization, ...]

    def __init__(self, members: Sequence[Detector], combine: str | None = None) -> None:
        """Take members that ``fit`` will train; ``from_trained`` takes trained ones.

        ``combine``: "max" or "mean" of their scores; None: the mean of up to four members, the maximum of more.
        Raises InputError without any, and for a ``combine`` that is neither "max" nor "mean".
        """
        if not members:
            raise InputError("an ensemble of 0 detectors", "must have at least one member", "give it a detector")
        combine = combination(len(members)) if combine is None else combine
        if combine not in COMBINATIONS:
            raise unknown_name("combine", combine, list(COMBINATIONS))
        self.combine = combine
        self.members = tuple(members)
        share_encoders(self.members)
        self.device = members[0].device
        kinds = {member.kind_of_scores() for member in members}
        # Scores of several kinds have their zero at the median of normal images.
        self.score_is_distance = len(kinds) == 1 and all(member.score_is_distance for member in members)

    @classmethod
    def from_trained(cls, members: Sequence[Detector], images: Images, combine: str | None = None) -> Self:
        """An ensemble of trained members, normalised by images that none of them learned from.

        Raises InputError as the constructor does, and FloatingPointError for scores that nothing can be compared by.
        """
        ensemble, whole = cls(members, combine), as_images(images)
        pairs = ensemble._scores_and_pixels(whole)
        are_distances = [member.score_is_distance for member in members]
        kinds = [member.kind_of_scores() for member in members]
        scores, maps = (normalizations(part, are_distances, kinds) for part in zip(*pairs, strict=True))
        return ensemble.with_normalization(scores, maps)

    def with_normalization(
        self, normalizations: Sequence[Sequence[float]], map_normalizations: Sequence[Sequence[float]]
    ) -> Self:
        """This ensemble of trained members with known normalisations. Raises InputError where not one per member."""
        if not len(self.members) == len(normalizations) == len(map_normalizations):
            counts = f"{len(normalizations)} and {len(map_normalizations)} normalisations"
            raise InputError(counts, f"must be one for each of its {len(self.members)} members", "give one each")
        self.channels = self.members[0].channels
        self.normalizations = tuple(map(_restored, normalizations))
        self.map_normalizations = tuple(map(_restored, map_normalizations))
        return self

    def fit(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        """Train every member on 85% of normal images and normalise by the rest; steps are counted over all members.

        Raises as members do.
        """
        whole = as_images(images)
        order = torch.randperm(len(whole), generator=generator(0, "ensemble"))
        held_out = order[: max(1, round(HELD_OUT * len(whole)))]
        rest = torch.ones(len(whole), dtype=torch.bool)
        rest[held_out] = False
        before = last = 0

        def report(step: int, loss: float) -> None:
            nonlocal last
            last = before + step
            if on_progress is not None:
                on_progress(last, loss)

        for member in self.members:
            member.fit(whole[rest], on_progress=report)
            before = last
        trained = self.from_trained(self.members, whole[held_out])
        return self.with_normalization(trained.normalizations, trained.map_normalizations)

    def module(self) -> EnsembleModule:
        self._require_normalization()
        modules = [member.module() for member in self.members]
        return EnsembleModule(modules, self.normalizations, self.map_normalizations, self.combine).eval()

    def require_size(self, images: Tensor) -> Tensor:
        for member in self.members:
            member.require_size(images)
        return images

    def obstacle_to_export(self) -> str:
        return next(filter(None, (member.obstacle_to_export() for member in self.members)), "")

    def pixels_evaluated(self, height: int, width: int) -> int:
        return max(member.pixels_evaluated(height, width) for member in self.members)

    def has_pseudo_anomalies(self) -> bool:
        return bool(self._learning_from_images)

    @property
    def _learning_from_images(self) -> list[Detector]:
        return [member for member in self.members if member.has_pseudo_anomalies() and member.pseudo_are_images()]

    def pseudo_anomalies(self, images: Images, generator: torch.Generator) -> Tensor | None:
        whole = as_images(images)
        anomalies = torch.empty(whole.shape)
        members = self._learning_from_images
        for turn, member in enumerate(members[: len(whole)]):
            rows = slice(turn, None, len(members))
            turned = member.pseudo_anomalies(whole[rows], generator)
            assert turned is not None
            anomalies[rows] = turned
        return anomalies if members else None

    def state(self) -> State:
        self._require_normalization()
        states = [member.state() for member in self.members]
        owners = encoder_owners(self.members)
        settings: dict[str, Any] = {
            "detector": self.name,
            "combine": self.combine,
            "encoders": owners,
            "members": [state.settings for state in states],
            "normalizations": self.normalizations,
            "map_normalizations": self.map_normalizations,
        }
        trained, fitted = (
            {
                f"{i}.{name}": tensor
                for i, state in enumerate(states)
                for name, tensor in getattr(state, part).items()
                if owners[i] == i or not name.startswith(ENCODER)
            }
            for part in ("trained", "fitted")
        )
        return State(settings, trained, fitted)

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> Self:
        """The ensemble whose ``state`` this is. Raises InputError when a part is missing or does not fit."""
        saved = state.settings
        try:
            members = []
            for i, settings in enumerate(saved["members"]):
                shared = strip_prefix(state.trained, f"{saved['encoders'][i]}.")
                trained = {name: tensor for name, tensor in shared.items() if name.startswith(ENCODER)}
                trained |= strip_prefix(state.trained, f"{i}.")
                own = State(settings, trained, strip_prefix(state.fitted, f"{i}."))
                members.append(registry.get(settings["detector"]).from_state(own, device))
            return cls(members, saved["combine"]).with_normalization(
                saved["normalizations"], saved["map_normalizations"]
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            reason = f"is incomplete ({type(error).__name__}: {error})"
            raise InputError("a saved ensemble", reason, "make and save it again") from error

    @torch.no_grad()
    def _scores_and_pixels(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each member the scores of images (n,), and evenly spaced pixels of their maps."""
        self.channels = self.members[0].channels
        size = images.shape[2], images.shape[3]
        modules = [member.module() for member in self.members]
        module = EnsembleModule(modules, (), ()).eval()
        scores, pixels = (list[list[Tensor]]([[] for _ in modules]) for _ in range(2))
        for features in self._features(module, self.require_size(images)):
            for i, (member, own) in enumerate(zip(modules, features, strict=True)):
                score, score_map = member.score_and_map(own, size)
                scores[i].append(score.cpu())
                pixels[i].append(_some_pixels(score_map.cpu(), len(images)))
        return [(torch.cat(scores[i]), torch.cat(pixels[i])) for i in range(len(modules))]

    def _require_normalization(self) -> None:
        if not hasattr(self, "normalizations"):
            rule = "does not know yet how normal images score"
            raise InputError("this ensemble", rule, "call fit(images), or Ensemble.from_trained")


def _restored(values: Sequence[float]) -> Normalization:
    """A normalisation from what JSON keeps of it."""
    return Normalization(values[0], values[1], bool(values[2]))


def _some_pixels(maps: Tensor, of: int) -> Tensor:
    """Evenly spaced pixels (k,) of maps (n,H,W), all of them where they are few, if there are ``of`` maps in all."""
    step = -(-of * maps.shape[1] * maps.shape[2] // MAX_PIXELS) | 1  # odd, to meet every column
    return maps.flatten()[::step].clone()
