"""What the kinds whose encoder stays as it was built have in common: their scores begin with its levels."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from augmentations import InputError
from augmentations.randomness import generator
from detectors.devices import deterministic
from detectors.encoders import LITE0, EncoderSpec, levels, lite0_is_installed
from detectors.images import Images, as_images
from detectors.kind import LOCATION_ROWS, Kind
from detectors.presets import Preset
from detectors.scorers import Scorer
from detectors.scorers.standardized import Standardized
from detectors.scoring import ScoringModule, TwoStageModule, some_rows
from detectors.shared_features import Levels

# px that pretrained features are computed at: below, of too few locations; above, they cost more than they show.
SMALLEST_INPUT, LARGEST_INPUT = 64, 256
MOST_LOCATIONS = 32 * 32  # of a grid that is chosen where none is named
LOCATION_VALUES = 2**27  # features kept at once to fit a model for each location: 512 MiB; above, fewer images are used


class LevelsModule(TwoStageModule):
    """A scoring graph that parts after the levels of an encoder: ``features`` are ``from_levels`` of them."""

    def levels(self, images: Tensor) -> Levels:
        """The levels (N,d,h,w) of the encoder, fine to coarse."""
        return contiguous_levels(self.encoder, images)

    def features(self, images: Tensor) -> Any:
        return self.from_levels(self.levels(images))

    @abstractmethod
    def from_levels(self, levels: Levels) -> Any:
        """What embeddings, scores and maps are computed from."""


class FrozenKind(Kind):
    """A kind whose encoder stays as it was built, so that features of the same images can be shared (``shared``).

    Its settings have the fields ``image_size`` and ``encoder``.
    """

    learns_encoder: ClassVar[bool] = False

    @classmethod
    def needs(cls, settings: Any) -> int:
        return EncoderSpec.of(settings.encoder).input_size or settings.image_size

    def build_encoder(self, channels: int) -> nn.Module:
        return EncoderSpec.of(self.settings.encoder).build(channels, self.settings.image_size)

    @abstractmethod
    def scoring_module(self) -> LevelsModule: ...

    def levels(self, images: Images) -> Iterator[Levels]:
        """The encoder's levels of images, in batches of bounded size, shared where ``shared`` has them."""
        whole = as_images(images)
        self.require_channels(whole)
        kept = None
        if self.shared is not None:
            kept = self.shared.levels(self.encoder, whole, lambda: self._computed(whole), self.device)
        return self._computed(whole, self.depth) if kept is None else kept

    @property
    def depth(self) -> int | None:
        """How many of the encoder's levels are looked at, fine to coarse, where that is known; None: all."""
        return None

    def make_scorer(self, *, per_location: bool = False) -> Scorer:
        scorer = super().make_scorer(per_location=per_location)
        return Standardized(scorer) if scorer.normalised else scorer

    def is_per_location(self, scorer: Scorer) -> bool:
        return super().is_per_location(scorer.scorer if isinstance(scorer, Standardized) else scorer)

    @property
    def pools(self) -> bool:
        """Whether images are scored by pooled features, and not by their locations."""
        return True

    def fit_scorer(self, images: Images) -> Self:
        """Scorers of pooled features and of the features of locations of normal images; memory is bounded.

        Each location has a model of its own where the scorer has that form.
        """
        self._require("encoder")
        whole = as_images(images)
        per_location = self.scorer_spec.kind.per_location is not None
        source = generator(self.seed, "locations")
        share = max(1, LOCATION_ROWS // len(whole))
        rows, places = [], []
        start = 0
        for features in self._features(self.scoring_module().eval(), whole):
            if start == 0:
                is_kept = self._choose_locations(features, len(whole), per_location)
                module = self.scoring_module().eval()
                module.scorer = scorer = self.make_scorer()  # says which rows it wants
            rows.append(module.rows(features))
            every = module.locations(features)
            kept = is_kept[start : start + len(every)].to(every.device)
            places.append(every[kept] if per_location else some_rows(every, share, source))
            start += len(every)
        of_locations = self.make_scorer(per_location=per_location).fit(torch.cat(places))
        if self.pools:
            self.scorer, self.map_scorer = scorer.fit(torch.cat(rows)), of_locations
        else:
            self.scorer = of_locations
        return self

    def _choose_locations(self, features: Any, n: int, per_location: bool) -> Tensor:
        """Before scorers are fitted, which of n images (n,) a model for each location is fitted to."""
        return self._kept(n, self.scoring_module().locations(features)[0].numel())

    def _kept(self, n: int, values: int) -> Tensor:
        """(n,) which images to use, each of so many values, for all to fit in bounded memory."""
        is_kept = torch.zeros(n, dtype=torch.bool)
        order = torch.randperm(n, generator=generator(self.seed, "locations", "images"))
        is_kept[order[: max(2, LOCATION_VALUES // values)]] = True
        return is_kept

    @torch.no_grad()
    def score_and_map(self, images: Images) -> tuple[Tensor, Tensor]:
        module = self.module()
        whole = self.require_size(as_images(images))
        size = whole.shape[2], whole.shape[3]
        pairs = [module.score_and_map(features, size) for features in self._features(module, whole)]
        scores, maps = zip(*pairs, strict=True)
        return torch.cat([part.cpu() for part in scores]), torch.cat([part.cpu() for part in maps])

    def pixels_evaluated(self, height: int, width: int) -> int:
        side = EncoderSpec.of(self.settings.encoder).input_size or 1
        return max(height * width, side * side)

    @torch.no_grad()
    def _features(self, module: ScoringModule, images: Images) -> Iterator[Any]:
        assert isinstance(module, LevelsModule)
        for batch in self.levels(images):
            with deterministic(self.device):
                features = module.from_levels(batch)
            yield features

    @torch.no_grad()
    def _computed(self, images: Tensor, depth: int | None = None) -> Iterator[Levels]:
        for batch in self.batches(images):
            with deterministic(self.device):
                computed = contiguous_levels(self.encoder, batch, depth)
            yield computed


def best_encoder(preset: Preset) -> str | EncoderSpec:
    """The pretrained encoder that packages on this machine have, or the preset's with random weights.

    It sees images twice as large as what is trained from scratch, within the sizes that its weights make sense of.
    """
    if not lite0_is_installed():
        return preset.encoder
    size = min(max(2 * preset.image_size, SMALLEST_INPUT), LARGEST_INPUT)
    return EncoderSpec.canonical({"name": LITE0, "input_size": size})


def contiguous_levels(encoder: nn.Module, images: Tensor, most: int | None = None) -> Levels:
    """The levels (N,d,h,w) of an encoder, fine to coarse, in one memory format: sums over them depend on it."""
    return [level.contiguous() for level in levels(encoder, images, most)]


def chosen(levels: Levels, which: tuple[int, ...]) -> Levels:
    """The levels at these places; all where none is named.

    Raises:
        InputError: for a place that the encoder has no level for.
    """
    unknown = [place for place in which if not -len(levels) <= place < len(levels)]
    if unknown:
        rule = f"is not one of the encoder's {len(levels)} levels"
        raise InputError(f"level {unknown[0]}", rule, f"choose from 0 to {len(levels) - 1}, fine to coarse")
    return [levels[place] for place in which] if which else levels


def of_locations(levels: Levels) -> tuple[int, ...]:
    """The places of the levels that show locations best: those on the two finest grids of a bounded size.

    Of lite0 and of residual networks at their usual sizes, what is 8 and 16 px apart (as in PatchCore).
    """
    grids = [(level.shape[2], level.shape[3]) for level in levels]
    small = sorted({grid for grid in grids if grid[0] * grid[1] <= MOST_LOCATIONS}, reverse=True) or [min(grids)]
    return tuple(place for place, grid in enumerate(grids) if grid in small[:2])


def on_grid(levels: Levels, size: tuple[int, int]) -> Tensor:
    """(N,D,h,w): levels side by side, each brought to a grid of ``size`` (h,w): averaged, or bilinearly enlarged."""
    return torch.cat([_on_grid(level, size) for level in levels], 1)


def _on_grid(level: Tensor, size: tuple[int, int]) -> Tensor:
    if level.shape[2:] == size:
        return level
    rows, columns = (_weights(n, wanted, level.device) for n, wanted in zip(level.shape[2:], size, strict=True))
    return rows @ level @ columns.mT


def _weights(n: int, wanted: int, device: torch.device) -> Tensor:
    """(wanted, n): what each of ``n`` locations along an axis gives to each of ``wanted``.

    Matrices, because any exported program can hold them; averaging over areas that are no whole number it can't.
    """
    if n < wanted:
        identity = torch.eye(n, device=device).unsqueeze(1)
        return nn.functional.interpolate(identity, wanted, mode="linear", align_corners=False).squeeze(1).mT
    begin = torch.arange(wanted, device=device)[:, None] * n / wanted
    place = torch.arange(n, device=device)
    overlap = torch.minimum(begin + n / wanted, place + 1) - torch.maximum(begin, place)
    return overlap.clamp(min=0) * wanted / n


def neighbourhood_mean(level: Tensor, side: int) -> Tensor:
    """(N,d,h,w): each location averaged with its neighbours, ``side`` along an axis, fewer at the border."""
    if side == 1:
        return level
    return nn.functional.avg_pool2d(level, side, 1, side // 2, count_include_pad=False)
