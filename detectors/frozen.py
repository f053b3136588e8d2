"""The frozen detector: an encoder as it is, and scorers on its features.

Images are scored by their pooled features (Sohn et al., ICLR 2021), or by their locations, under a Gaussian for each
(PaDiM: Defard et al., ICPR 2020) or in one model for all, such as nearest neighbours (PatchCore: Roth et al., CVPR
2022). With random weights it is the baseline of every training: what an encoder shows that has learned nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from augmentations.errors import unknown_name
from augmentations.randomness import generator
from detectors.encoders import EncoderSpec
from detectors.frozen_levels import (
    FrozenKind,
    LevelsModule,
    best_encoder,
    chosen,
    neighbourhood_mean,
    of_locations,
    on_grid,
)
from detectors.presets import Preset, require
from detectors.scorers import Scorer
from detectors.scoring import top_share, upsample
from detectors.shared_features import Levels

SCORES = POOLED, LOCATIONS = "pooled", "locations"
SUMMARIES = TOP, MAX = "top", "max"  # of the scores of an image's locations: the mean of the highest tenth, the highest
CHANNELS = 100  # of 160 and more that a Gaussian for each location sees; Defard et al. draw 100 of 448 for ResNet-18
MODEL_VALUES = 2**26  # in the Gaussians of all locations, 256 MiB; above, they see fewer channels


@dataclass(frozen=True)
class FrozenSettings:
    """An encoder, and what of its levels is scored.

    image_size: side in pixels of the images. image_levels, map_levels: places among the encoder's levels, fine to
    coarse, whose pooled features score an image (empty: all), and whose locations make the map (empty: the two finest
    grids of up to 1,024 locations). score: "pooled", or
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
        object.__setattr__(self, "encoder", EncoderSpec.canonical(self.encoder))
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

    map_levels: places of the map's levels. picked: which channels of those, side by side, its scorer sees; None: all.
    grid: the (h,w) that they are brought to; None: that of the finest.
    """

    def __init__(
        self,
        encoder: nn.Module,
        scorer: Scorer | None,
        map_scorer: Scorer | None,
        settings: FrozenSettings,
        map_levels: tuple[int, ...] = (),
        picked: list[int] | None = None,
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(encoder, scorer, map_scorer)
        self.settings, self.map_levels, self.picked, self.grid = settings, map_levels, picked, grid

    def from_levels(self, levels: Levels) -> Levels:
        return levels

    def embed(self, features: Any) -> Tensor:
        """Pooled levels, each of unit norm, side by side: none speaks louder because it has more channels."""
        pooled = [nn.functional.normalize(level, dim=1) for level in self._pooled(features)]
        return nn.functional.normalize(torch.cat(pooled, 1), dim=1)

    def rows(self, features: Any) -> Tensor:
        return self.embed(features) if self.normalises else torch.cat(self._pooled(features), 1)

    def locations(self, features: Any) -> Tensor:
        """(N,h,w,d) the channels that were picked, of the map's levels on one grid."""
        side = self.settings.neighbourhood
        smooth = [neighbourhood_mean(level, side) for level in chosen(features, self.map_levels)]
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

    def score_and_map(self, features: Any, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        scores = self._location_scores(features)
        of_image = super().score(features) if self.settings.score == POOLED else self._summary(scores)
        return of_image, upsample(scores, size)

    def _pooled(self, features: Any) -> list[Tensor]:
        return [level.mean((2, 3)) for level in chosen(features, self.settings.image_levels)]

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

    map_levels: tuple[int, ...] = ()
    picked: list[int] | None = None
    grid: tuple[int, int] | None = None

    @classmethod
    def settings_for(cls, preset: Preset) -> FrozenSettings:
        return FrozenSettings(preset.image_size, best_encoder(preset))

    @property
    def pools(self) -> bool:
        return self.settings.score == POOLED

    def scoring_module(self) -> FrozenModule:
        scorers = getattr(self, "scorer", None), getattr(self, "map_scorer", None)
        if not self.pools:
            scorers = None, scorers[0]
        return FrozenModule(self.encoder, *scorers, self.settings, self.map_levels, self.picked, self.grid)

    def kind_of_scores(self) -> str:
        return f"{super().kind_of_scores()}, {self.settings.score}"

    @classmethod
    def scores_embeddings(cls, settings: FrozenSettings) -> bool:
        return settings.score == POOLED

    def extra_state(self) -> dict[str, Any]:
        return {"map_levels": self.map_levels, "picked": self.picked, "grid": self.grid}

    def restore_extra(self, saved: Mapping[str, Any]) -> None:
        self.map_levels = tuple(saved["map_levels"])
        self.picked, self.grid = saved["picked"], saved["grid"] and (saved["grid"][0], saved["grid"][1])

    def _choose_locations(self, features: Levels, n: int, per_location: bool) -> Tensor:
        """The levels and channels of locations, and their grid if each has a model; then as of every kind."""
        self.picked = self.grid = None
        self.map_levels = self.settings.map_levels or of_locations(features)
        height, width, total = self.scoring_module().locations([level[:1] for level in features]).shape[1:]
        wanted = self.settings.channels or total
        if per_location:
            self.grid = height, width
            wanted = max(1, min(wanted, math.isqrt(MODEL_VALUES // (height * width))))
        if wanted < total:
            drawn = torch.randperm(total, generator=generator(self.seed, "channels"))[:wanted]
            self.picked = drawn.sort().values.tolist()
        return self._kept(n, height * width * min(wanted, total))
