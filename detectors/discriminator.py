"""The discriminator: a small head that learns pseudo anomalies on the features of a frozen encoder.

Pseudo anomalies are augmented images, whose features are computed once per training, or changed features, as in
SimpleNet (Liu et al., CVPR 2023). A scorer on what the head has learned is a better anomaly score than its logit.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from augmentations import Augmentation, InputError
from augmentations.errors import unknown_name
from augmentations.randomness import generator
from detectors.base import Progress
from detectors.devices import deterministic
from detectors.encoders import EncoderSpec
from detectors.files import State
from detectors.frozen_levels import (
    LOCATION_VALUES,
    FrozenKind,
    LevelsModule,
    best_encoder,
    chosen,
    of_locations,
    on_grid,
)
from detectors.head_training import train_head
from detectors.images import Images, as_float, as_images
from detectors.kind import strip_prefix
from detectors.presets import Preset, require
from detectors.scorers import Scorer
from detectors.scorers.standardized import spread
from detectors.scoring import top_share, upsample
from detectors.shared_features import Levels

SCORES = HIDDEN, LOGIT = "hidden", "logit"
FEATURES = "features"  # the space of augmentations that change features, and not images


@dataclass(frozen=True)
class DiscriminatorSettings:
    """A head on the levels of an encoder that stays as it is, and how it learns.

    image_size: side in pixels of the images. levels: places among the encoder's levels, fine to coarse; empty: the
    two finest grids of up to 1,024 locations. They are brought to one grid, of up to ``side`` locations along a side.
    width: of the head. batch: normal images per step, and as many of each class of pseudo anomalies. pool: augmented
    images of each class whose features are computed, once, and learned from.
    noise: standard deviation of Gaussian noise on all features while learning, in multiples of their own.
    score: "hidden", of scorers on what the head has learned, or "logit". Raises InputError for a value out of range.
    """

    image_size: int
    encoder: str | EncoderSpec = "small"
    levels: tuple[int, ...] = ()
    side: int = 8
    width: int = 64
    steps: int = 100
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    pool: int = 256
    noise: float = 0.1
    score: str = HIDDEN

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder", EncoderSpec.canonical(self.encoder))
        object.__setattr__(self, "levels", tuple(self.levels))
        if self.score not in SCORES:
            raise unknown_name("score", self.score, list(SCORES))
        require(
            self,
            (
                ("image_size", self.image_size >= 1, "must be at least 1 px", "64"),
                ("side", self.side >= 1, "must be at least 1", "8"),
                ("width", self.width >= 1, "must be at least 1", "64"),
                ("steps", self.steps >= 1, "must be at least 1", "100"),
                ("batch", self.batch >= 1, "must be at least 1 image", "16"),
                ("learning_rate", 0 < self.learning_rate < math.inf, "must be finite and > 0", "1e-3"),
                ("weight_decay", 0 <= self.weight_decay < math.inf, "must be finite and >= 0", "1e-5"),
                ("pool", self.pool >= 1, "must be at least 1 image", "256"),
                ("noise", 0 <= self.noise < math.inf, "must be finite and >= 0", "0.1"),
            ),
        )


class Head(nn.Module):
    """Features of locations (N,d,h,w) to what it learned of them (N,width,h,w), and from there to logits.

    by_location: whether it learns which locations are changed, each by itself, or which images are, from what their
    locations show together. center, scale: (d,) of the features of normal images, which are standardised by them.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, inputs: int, width: int, classes: int, *, by_location: bool) -> None:
        super().__init__()
        self.by_location = by_location
        self.register_buffer("center", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        first = [nn.Conv2d(inputs, width, 1), nn.ReLU()]
        second = [] if by_location else [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*first, *second)
        self.classify = nn.Linear(width if by_location else 2 * width, classes)

    def standardise(self, features: Tensor) -> Tensor:
        """Features in multiples of their spread, so that noise means the same on every encoder."""
        return (features - self.center[:, None, None]) / self.scale[:, None, None]

    def forward(self, standardised: Tensor) -> Tensor:
        """What the head has learned of each location: (N,width,h,w)."""
        return self.body(standardised)

    def logits(self, hidden: Tensor) -> Tensor:
        """(N,classes) of images; (N,h,w,classes) of locations where it learned of them."""
        return self.classify(hidden.movedim(1, -1) if self.by_location else _mean_and_max(hidden))

    def location_logits(self, hidden: Tensor) -> Tensor:
        """(N,h,w,classes): as if all locations of an image were like this one, where it learned of images."""
        if self.by_location:
            return self.logits(hidden)
        return self.classify(torch.cat([hidden, hidden], 1).movedim(1, -1))


class DiscriminatorModule(LevelsModule):
    """The scoring graph: ``features`` are what the head has learned of each location (N,width,h,w)."""

    def __init__(
        self,
        encoder: nn.Module,
        head: Head,
        scorer: Scorer | None,
        map_scorer: Scorer | None,
        settings: DiscriminatorSettings,
        used: tuple[int, ...],
        grid: tuple[int, int],
    ) -> None:
        super().__init__(encoder, scorer, map_scorer)
        self.head, self.settings, self.used, self.grid = head, settings, used, grid

    def standardised(self, levels: Levels) -> Tensor:
        """(N,d,h,w) what the head reads."""
        return self.head.standardise(on_grid(chosen(levels, self.used), self.grid))

    def from_levels(self, levels: Levels) -> Tensor:
        return self.head(self.standardised(levels))

    def embed(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(_mean_and_max(features), dim=1)

    def rows(self, features: Tensor) -> Tensor:
        return self.embed(features) if self.normalises else _mean_and_max(features)

    def locations(self, features: Tensor) -> Tensor:
        return features.movedim(1, -1)

    def score(self, features: Tensor) -> Tensor:
        if self.settings.score == HIDDEN:
            return super().score(features)
        margins = _margin(self.head.logits(features))
        return top_share(margins) if self.head.by_location else margins

    def map(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        if self.settings.score == HIDDEN:
            return super().map(features, size)
        return upsample(_margin(self.head.location_logits(features)), size)


class Discriminator(FrozenKind):
    """A head on frozen features that learns to distinguish normal images, or locations, from pseudo anomalies.

    Augmentations of images make pseudo anomalies of whole images; those of features change locations, and the head
    learns which. embed: what the head has learned, its mean and maximum over locations. score: the scorer's, on the
    standardised embedding. score_map: that of a scorer of each location, upsampled bilinearly and smoothed. With
    ``score="logit"`` both are the head's own: the log odds of any pseudo anomaly against normal.
    """

    name = "discriminator"
    Settings = DiscriminatorSettings
    spaces = ("images", "features")
    settings: DiscriminatorSettings
    maps_per_location = True

    # Absent until training.
    head: Head
    used: tuple[int, ...]  # places of the levels that the head reads
    grid: tuple[int, int]

    def __init__(self, settings: DiscriminatorSettings, augmentation: Augmentation | None = None, **rest: Any) -> None:
        super().__init__(settings, augmentation, **rest)
        if settings.score == LOGIT:
            self.score_is_distance = False

    @classmethod
    def settings_for(cls, preset: Preset) -> DiscriminatorSettings:
        return DiscriminatorSettings(preset.image_size, best_encoder(preset))

    @classmethod
    def uses_scorer(cls, settings: DiscriminatorSettings) -> bool:
        return settings.score == HIDDEN

    @property
    def depth(self) -> int | None:
        """As far as the head looks, once that was chosen."""
        used = getattr(self, "used", None)
        return None if used is None or min(used) < 0 else 1 + max(used)

    @property
    def changes_features(self) -> bool:
        """Whether the augmentation changes features, and not images."""
        return self.augmentation.space == FEATURES

    # Training ------------------------------------------------------------------------------------------------

    def train(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        clean = as_images(images)
        former = dict(vars(self))
        try:
            normal = self._begin(clean)
            changed = None if self.changes_features else [self._changed(clean, part) for part in self._parts]
            with deterministic(self.device):
                self.losses = train_head(
                    self.head.requires_grad_(True),
                    normal,
                    self.augmentation if changed is None else changed,
                    self.settings,
                    seed=self.seed,
                    on_progress=on_progress,
                )
        except BaseException:
            vars(self).clear()
            vars(self).update(former)
            raise
        self.head.eval().requires_grad_(False)
        return self

    def random_init(self, images: Images) -> Self:
        self._begin(as_images(images))
        return self

    def _begin(self, images: Tensor) -> Tensor:
        """The encoder, and the head with its first weights; returns the standardised features (n,d,h,w) to learn."""
        super().random_init(images)
        is_kept = None
        features = []
        start = 0
        for levels in self.levels(images):
            if is_kept is None:
                self.used = self.settings.levels or of_locations(levels)
            of_head = chosen(levels, self.used)
            if is_kept is None:
                finest = max((level.shape[2], level.shape[3]) for level in of_head)
                self.grid = min(finest[0], self.settings.side), min(finest[1], self.settings.side)
                values = self.grid[0] * self.grid[1] * sum(level.shape[1] for level in of_head)
                is_kept = self._kept(len(images), values)
            on_one = on_grid(of_head, self.grid)
            features.append(on_one[is_kept[start : start + len(on_one)].to(on_one.device)])
            start += len(on_one)
        normal = torch.cat(features)
        if not normal.isfinite().all():
            raise InputError("features", "must be finite", "use other weights, or images that are not damaged")
        self.head = self._first_head(normal.shape[1])
        self.head.center, self.head.scale = spread(normal.movedim(1, -1))
        return self.head.standardise(normal)

    def _first_head(self, inputs: int) -> Head:
        classes = 2 if self.changes_features else 1 + len(self._parts)
        with self._first_weights():
            head = Head(inputs, self.settings.width, classes, by_location=self.changes_features)
        return head.to(self.device).eval().requires_grad_(False)

    @property
    def _parts(self) -> tuple[Augmentation, ...]:
        return self.augmentation.parts

    @torch.no_grad()
    def _changed(self, images: Tensor, part: Augmentation) -> Tensor:
        """(pool,d,h,w) standardised features of images that one class of pseudo anomalies was made of."""
        source = generator(self.seed, "pool", type(part).name)
        passes = -(-self.settings.pool // len(images))
        order = torch.cat([torch.randperm(len(images), generator=source) for _ in range(passes)])[: self.settings.pool]
        module = self.scoring_module()
        values = math.prod(self.grid) * len(self.head.center)
        features = []
        for which in order[: max(2, LOCATION_VALUES // values)].split(self._at_once(images)):
            augmented = part(as_float(images[which]), source)
            features.append(
                torch.cat([module.standardised(levels) for levels in self._computed(augmented, self.depth)])
            )
        return torch.cat(features)

    def _at_once(self, images: Tensor) -> int:
        return len(next(self.batches(images)))

    # Pseudo anomalies ----------------------------------------------------------------------------------------

    def pseudo_are_images(self) -> bool:
        return not self.changes_features

    def draws_worth(self, wanted: int) -> int:
        """One of augmented images, which a frozen encoder sees for this alone; all of changed features."""
        return wanted if self.changes_features else 1

    def pseudo_anomalies(self, images: Images, generator: torch.Generator) -> Tensor | None:
        clean = as_images(images)
        return None if self.changes_features else super().pseudo_anomalies(clean, generator)

    @torch.no_grad()
    def pseudo_embeddings(self, images: Images, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
        if not self.changes_features:
            return super().pseudo_embeddings(images, generator)
        module = self.module()
        assert isinstance(module, DiscriminatorModule)
        pairs = [(module.embed(f).cpu(), module.score(f).cpu()) for f in self._noisy(module, images, generator)]
        embeddings, scores = zip(*pairs, strict=True)
        return torch.cat(embeddings), torch.cat(scores)

    def _noisy(self, module: DiscriminatorModule, images: Images, source: torch.Generator) -> Iterator[Tensor]:
        for levels in self.levels(images):
            features = module.standardised(levels)
            drawn = self.augmentation.sample(len(features), self.grid, source)
            yield module.head(self.augmentation.apply(features, drawn))

    # Scoring and files ---------------------------------------------------------------------------------------

    def scoring_module(self) -> DiscriminatorModule:
        scorers = getattr(self, "scorer", None), getattr(self, "map_scorer", None)
        return DiscriminatorModule(self.encoder, self.head, *scorers, self.settings, self.used, self.grid)

    def kind_of_scores(self) -> str:
        return f"{super().kind_of_scores()}, {self.settings.score}"

    @classmethod
    def scores_embeddings(cls, settings: DiscriminatorSettings) -> bool:
        return settings.score == HIDDEN

    def take_training(self, other: Self) -> None:
        super().take_training(other)
        self.head, self.used, self.grid = other.head, other.used, other.grid

    def trained_state(self) -> dict[str, Tensor]:
        self._require("head")
        return {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}

    def extra_state(self) -> dict[str, Any]:
        return {"used": self.used, "grid": self.grid}

    def restore_extra(self, saved: Mapping[str, Any]) -> None:
        self.used, self.grid = tuple(saved["used"]), (saved["grid"][0], saved["grid"][1])

    def restore_trained(self, state: State) -> None:
        tensors = strip_prefix(state.trained, "head.")
        self.head = self._first_head(len(tensors["center"]))
        self.head.load_state_dict(tensors)


def _mean_and_max(hidden: Tensor) -> Tensor:
    """(N,d,h,w) to (N,2d): the mean over locations beside the maximum."""
    return torch.cat([hidden.mean((2, 3)), hidden.amax((2, 3))], 1)


def _margin(logits: Tensor) -> Tensor:
    """(...,classes) logits to (...,): the log odds of any class but the first."""
    return logits[..., 1:].logsumexp(-1) - logits[..., 0]
