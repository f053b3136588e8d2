"""The frozen detector: an encoder as it is, and scorers on its features.

Images are scored by their pooled features (Sohn et al., ICLR 2021), or by their locations, under a Gaussian for each
(PaDiM: Defard et al., ICPR 2020) or in one model for all, such as nearest neighbours (PatchCore: Roth et al., CVPR
2022). With random weights it is the baseline of every training: what an encoder shows that has learned nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from augmentations.errors import unknown_name
from augmentations.randomness import generator
from detectors.encoders import EncoderSpec
from detectors.frozen_levels import FrozenKind, LevelsModule, chosen, neighbourhood_mean, on_grid
from detectors.images import Images, as_images
from detectors.kind import LOCATION_ROWS
from detectors.presets import Preset, require
from detectors.scorers import Scorer
from detectors.scorers.standardized import Standardized
from detectors.scoring import some_rows, top_share, upsample
from detectors.shared_features import Levels

SCORES = POOLED, LOCATIONS = "pooled", "locations"
SUMMARIES = TOP, MAX = "top", "max"  # of the scores of an image's locations: the mean of the highest tenth, the highest
CHANNELS = 100  # of 160 and more that a Gaussian for each location sees; Defard et al. draw 100 of 448 for ResNet-18
LOCATION_VALUES = 2**27  # features kept at once to fit a model for each location: 512 MiB; above, fewer images are used
MODEL_VALUES = 2**26  # in the Gaussians of all locations, 256 MiB; above, they see fewer channels


@dataclass(frozen=True)
class FrozenSettings:
    """An encoder, and what of its levels is scored.

    image_size: side in pixels of the images. image_levels, map_levels: places among the encoder's levels, fine to
    coarse, whose pooled features score an image, and whose locations make the map; empty: all. score: "pooled", or
    "locations" to score an image by its map. summary: the "top" tenth of locations or the "max". channels: how many of
    the map's channels, drawn at random, the scorer of locations sees; 0: all. neighbourhood: locations along a side
    that are averaged before. Raises InputError for an unknown encoder and a value out of range.
    """

    image_size: int
    encoder: str | EncoderSpec = "small"
    image_levels: tuple[int, ...] = ()
    map_levels: tuple[int, ...] = ()
    score: str = POOLED
    summary: str = TOP
    channels: int = CHANNELS
    neighbourhood: int = 1

    def __post_init__(self) -> None:
        spec = EncoderSpec.of(self.encoder)
        object.__setattr__(self, "encoder", self.encoder if isinstance(self.encoder, str) else spec)
        for name in ("image_levels", "map_levels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, known in (("score", SCORES), ("summary", SUMMARIES)):
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), list(known))
        odd = self.neighbourhood >= 1 and self.neighbourhood % 2 == 1
        require(
            self,
            (
                ("image_size", self.image_size >= 1, "must be at least 1 px", "64"),
                ("channels", self.channels >= 0, "must be at least 0", "100"),
                ("neighbourhood", odd, "must be an odd number of locations", "3"),
            ),
        )


class FrozenModule(LevelsModule):
    """The scoring graph: ``features`` are the levels.

    picked: which channels of the map's levels, side by side, its scorer sees; None: all. grid: the (h,w) that they are
    brought to; None: that of the finest.
    """

    def __init__(
        self,
        encoder: nn.Module,
        scorer: Scorer | None,
        map_scorer: Scorer | None,
        settings: FrozenSettings,
        picked: list[int] | None = None,
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(encoder, scorer, map_scorer)
        self.settings, self.picked, self.grid = settings, picked, grid

    def from_levels(self, levels: Levels) -> Levels:
        return levels

    def embed(self, features: Any) -> Tensor:
        """Pooled levels, each of unit norm, side by side: none speaks louder because it has more channels."""
        pooled = [nn.functional.normalize(level.mean((2, 3)), dim=1) for level in self._of_images(features)]
        return nn.functional.normalize(torch.cat(pooled, 1), dim=1)

    def rows(self, features: Any) -> Tensor:
        return self.embed(features)

    def locations(self, features: Any) -> Tensor:
        """(N,h,w,d) the channels that were picked, of the map's levels on one grid."""
        side = self.settings.neighbourhood
        smooth = [neighbourhood_mean(level, side) for level in chosen(features, self.settings.map_levels)]
        finest = max((level.shape[2], level.shape[3]) for level in smooth)
        side_by_side = on_grid(smooth, self.grid or finest)
        if self.picked is not None:
            side_by_side = side_by_side[:, self.picked]
        return side_by_side.movedim(1, -1)

    def score(self, features: Any) -> Tensor:
        if self.settings.score == POOLED:
            return super().score(features)
        return self._summary(self._location_scores(features))

    def map(self, features: Any, size: tuple[int, int]) -> Tensor:
        return upsample(self._location_scores(features), size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        scores = self._location_scores(features)
        of_image = super().score(features) if self.settings.score == POOLED else self._summary(scores)
        return of_image, upsample(scores, (images.shape[2], images.shape[3]))

    def _of_images(self, features: Any) -> Levels:
        return chosen(features, self.settings.image_levels)

    def _location_scores(self, features: Any) -> Tensor:
        assert self.map_scorer is not None
        return self.map_scorer(self.locations(features))

    def _summary(self, scores: Tensor) -> Tensor:
        return scores.amax((1, 2)) if self.settings.summary == MAX else top_share(scores)


class Frozen(FrozenKind):
    """An encoder as it is and scorers on its features; it learns against nothing.

    embed: the pooled levels. score: the scorer's, on the standardised embedding; or, with ``score="locations"``, the
    mean of the highest tenth of the location scores, or the highest. score_map: the location scores, upsampled
    bilinearly and smoothed. Each location has a model of its own where the scorer has that form, on a grid that images
    of any size are brought to; else all share one.
    """

    name = "frozen"
    Settings = FrozenSettings
    settings: FrozenSettings
    uses_augmentation = False
    maps_per_location = True

    picked: list[int] | None = None
    grid: tuple[int, int] | None = None

    @classmethod
    def settings_for(cls, preset: Preset) -> FrozenSettings:
        return FrozenSettings(preset.image_size, preset.encoder)

    @classmethod
    def needs(cls, settings: FrozenSettings) -> int:
        return getattr(EncoderSpec.of(settings.encoder), "input_size", None) or settings.image_size

    @classmethod
    def describe(cls, settings: FrozenSettings) -> str:
        scored = "pooled" if settings.score == POOLED else "by location"
        return f"{cls.name}, {EncoderSpec.of(settings.encoder).name}, {scored}"

    def build_encoder(self, channels: int) -> nn.Module:
        return EncoderSpec.of(self.settings.encoder).build(channels, self.settings.image_size)

    def make_scorer(self, *, per_location: bool = False) -> Scorer:
        return Standardized(super().make_scorer(per_location=per_location))

    def is_per_location(self, scorer: Scorer) -> bool:
        assert isinstance(scorer, Standardized)
        return super().is_per_location(scorer.scorer)

    def fit_scorer(self, images: Images) -> Self:
        """Scorers of pooled features and of the features of locations of normal images."""
        self._require("encoder")
        whole = as_images(images)
        per_location = self.scorer_spec.kind.per_location is not None
        source = generator(self.seed, "locations")
        share = max(1, LOCATION_ROWS // len(whole))
        self.picked = self.grid = None
        is_kept = torch.ones(len(whole), dtype=torch.bool)
        module: FrozenModule | None = None
        rows, places = [], []
        start = 0
        for features in self.levels(whole):
            if module is None:
                is_kept = self._choose(features, len(whole), per_location)
                module = self.scoring_module()
            rows.append(module.rows(features))
            every = module.locations(features)
            kept = is_kept[start : start + len(every)].to(every.device)
            places.append(every[kept] if per_location else some_rows(every, share, source))
            start += len(every)
        of_locations = self.make_scorer(per_location=per_location).fit(torch.cat(places))
        if self.settings.score == POOLED:
            self.scorer, self.map_scorer = self.make_scorer().fit(torch.cat(rows)), of_locations
        else:
            self.scorer = of_locations
        return self

    def scoring_module(self) -> FrozenModule:
        scorers = getattr(self, "scorer", None), getattr(self, "map_scorer", None)
        if self.settings.score == LOCATIONS:
            scorers = None, scorers[0]
        return FrozenModule(self.encoder, *scorers, self.settings, self.picked, self.grid)

    def score_embeddings(self, embeddings: Tensor) -> Tensor | None:
        return super().score_embeddings(embeddings) if self.settings.score == POOLED else None

    def extra_state(self) -> dict[str, Any]:
        return {"picked": self.picked, "grid": self.grid}

    def restore_extra(self, saved: Mapping[str, Any]) -> None:
        self.picked, self.grid = saved["picked"], saved["grid"] and (saved["grid"][0], saved["grid"][1])

    def _choose(self, features: Any, n: int, per_location: bool) -> Tensor:
        """Choose the channels of locations, and their grid if each has a model; which images (n,) to fit those to."""
        example = self.scoring_module().locations([level[:1] for level in features])
        height, width, total = example.shape[1:]
        wanted = self.settings.channels or total
        if per_location:
            self.grid = height, width
            wanted = max(1, min(wanted, math.isqrt(MODEL_VALUES // (height * width))))
        if wanted < total:
            drawn = torch.randperm(total, generator=generator(self.seed, "channels"))[:wanted]
            self.picked = drawn.sort().values.tolist()
        most = max(2, LOCATION_VALUES // (height * width * min(wanted, total))) if per_location else n
        is_kept = torch.zeros(n, dtype=torch.bool)
        is_kept[torch.randperm(n, generator=generator(self.seed, "locations", "images"))[:most]] = True
        return is_kept
