"""What the kinds whose encoder stays as it was built have in common: their scores begin with its levels."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from augmentations import InputError
from detectors.devices import deterministic
from detectors.encoders import EncoderSpec, levels
from detectors.images import Images, as_images
from detectors.kind import Kind
from detectors.scoring import ScoringModule, TwoStageModule
from detectors.shared_features import Levels


class LevelsModule(TwoStageModule):
    """A scoring graph that parts after the levels of an encoder: ``features`` are ``from_levels`` of them."""

    def levels(self, images: Tensor) -> Levels:
        """The levels (N,d,h,w) of the encoder, fine to coarse, in one memory format whoever computes them."""
        return [level.contiguous() for level in levels(self.frozen_part(), images)]

    def frozen_part(self) -> nn.Module:
        """The encoder that stays as it was built."""
        return self.encoder

    def features(self, images: Tensor) -> Any:
        return self.from_levels(self.levels(images))

    @abstractmethod
    def from_levels(self, levels: Levels) -> Any:
        """What embeddings, scores and maps are computed from."""


class FrozenKind(Kind):
    """A kind whose encoder stays as it was built, so that features of the same images can be shared (``shared``).

    Its settings have the field ``encoder``.
    """

    learns_encoder: ClassVar[bool] = False

    @abstractmethod
    def scoring_module(self) -> LevelsModule: ...

    def levels(self, images: Images) -> Iterator[Levels]:
        """The encoder's levels of images, in batches of bounded size, shared where ``shared`` has them."""
        whole = as_images(images)
        module = self.scoring_module().eval()
        if self.shared is None:
            return self._computed(module, whole)
        self.require_channels(whole)
        return self.shared.levels(module.frozen_part(), whole, lambda: self._computed(module, whole), self.device)

    @torch.no_grad()
    def score_and_map(self, images: Images) -> tuple[Tensor, Tensor]:
        module = self.module()
        whole = self.require_size(as_images(images))
        size = whole.shape[2], whole.shape[3]
        pairs = [(module.score(f).cpu(), module.map(f, size).cpu()) for f in self._features(module, whole)]
        scores, maps = zip(*pairs, strict=True)
        return torch.cat(scores), torch.cat(maps)

    def pixels_evaluated(self, height: int, width: int) -> int:
        side = getattr(EncoderSpec.of(self.settings.encoder), "input_size", None) or 1
        return max(height * width, side * side)

    @torch.no_grad()
    def _features(self, module: ScoringModule, images: Images) -> Iterator[Any]:
        assert isinstance(module, LevelsModule)
        for batch in self.levels(images):
            with deterministic(self.device):
                features = module.from_levels(batch)
            yield features

    @torch.no_grad()
    def _computed(self, module: LevelsModule, images: Tensor) -> Iterator[Levels]:
        for batch in self.batches(images):
            with deterministic(self.device):
                computed = module.levels(batch)
            yield computed


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


def on_grid(levels: Levels, size: tuple[int, int]) -> Tensor:
    """(N,D,h,w): levels side by side, each brought to a grid of ``size`` (h,w), bilinearly."""
    same = [
        level
        if level.shape[2:] == size
        else nn.functional.interpolate(level, size, mode="bilinear", align_corners=False)
        for level in levels
    ]
    return torch.cat(same, 1)


def neighbourhood_mean(level: Tensor, side: int) -> Tensor:
    """(N,d,h,w): each location averaged with its neighbours, ``side`` along an axis, fewer at the border."""
    if side == 1:
        return level
    return nn.functional.avg_pool2d(level, side, 1, side // 2, count_include_pad=False)
