"""The scoring graph: images to anomaly scores and score maps, the one that detectors run and exports trace."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from detectors.encoders import pool, reduced
from detectors.scorers import Scorer

TOP_SHARE = 0.1  # of locations that score an image: steadier than the highest alone


class ScoringModule(nn.Module, ABC):
    """Images (N,C,H,W) in [0,1] to scores (N,) and score maps (N,H,W), in one pass.

    The pass is cut where embeddings, scores and maps part: each of them starts from ``features``.
    """

    @abstractmethod
    def features(self, images: Tensor) -> Any:
        """What embeddings, scores and maps are computed from."""

    @abstractmethod
    def embed(self, features: Any) -> Tensor:
        """(N,d) L2-normalised embeddings."""

    @abstractmethod
    def score(self, features: Any) -> Tensor:
        """(N,) anomaly scores."""

    @abstractmethod
    def map(self, features: Any, size: tuple[int, int]) -> Tensor:
        """(N,H,W) anomaly scores by pixel, for images of ``size``."""

    def score_and_map(self, features: Any, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """``score`` and ``map`` together; a module whose score is made from its map computes that once."""
        return self.score(features), self.map(features, size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.score_and_map(self.features(images), (images.shape[2], images.shape[3]))


class TwoStageModule(ScoringModule):
    """An encoder, a scorer on its pooled features, and one on the features of each location.

    ``rows`` and ``locations`` say what the two scorers are fitted to, and then score. Either scorer may be absent
    as long as it is not used. Source: the two-stage recipe of Sohn et al., ICLR 2021.
    """

    def __init__(
        self, encoder: nn.Module, scorer: Scorer | None, map_scorer: Scorer | None, *, reduction: int = 1
    ) -> None:
        super().__init__()
        self.encoder, self.scorer, self.map_scorer, self.reduction = encoder, scorer, map_scorer, reduction

    def features(self, images: Tensor) -> Tensor:
        """(N,d,h,w)."""
        return self.encoder(reduced(images, self.reduction))

    def embed(self, features: Tensor) -> Tensor:
        return pool(features)

    def rows(self, features: Tensor) -> Tensor:
        """(N,d) what the scorer sees of an image: pooled features, L2-normalised unless it wants them as they are."""
        return pool(features) if self.normalises else features.mean((2, 3))

    @property
    def normalises(self) -> bool:
        """Whether the scorer sees L2-normalised rows."""
        return self.scorer is None or self.scorer.normalised

    def locations(self, features: Tensor) -> Tensor:
        """(N,h,w,d) what the map's scorer sees of each location."""
        return locations(features)

    def score(self, features: Tensor) -> Tensor:
        assert self.scorer is not None
        return self.scorer(self.rows(features))

    def map(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        assert self.map_scorer is not None
        return upsample(self.map_scorer(self.locations(features)), size)


def locations(features: Tensor) -> Tensor:
    """(N,d,h,w) spatial features to (N,h,w,d), L2-normalised at each location."""
    return nn.functional.normalize(features.movedim(1, -1), dim=-1)


def some_rows(places: Tensor, share: int, source: torch.Generator) -> Tensor:
    """(N,h,w,d) features of locations to (M,d): up to ``share`` of each image, drawn without replacement."""
    rows = places.flatten(1, 2)
    chosen = torch.rand(rows.shape[:2], generator=source).argsort(1)[:, :share].to(rows.device)
    return rows.take_along_dim(chosen.unsqueeze(2), 1).flatten(0, 1)


def top_share(scores: Tensor) -> Tensor:
    """(N,h,w) scores of locations to (N,): the mean of the highest tenth, of one location at least."""
    flat = scores.flatten(1)
    return flat.topk(max(1, round(TOP_SHARE * flat.shape[1])), dim=1).values.mean(1)


def upsample(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """(N,h,w) scores of locations to (N,H,W): bilinear, then a Gaussian of half a location's spacing."""
    rows, columns = (_weights(few, many, scores.device) for few, many in zip(scores.shape[1:], size, strict=True))
    return rows @ scores @ columns.mT


def _weights(few: int, many: int, device: torch.device) -> Tensor:
    """(many, few): what each of ``few`` locations gives to each of ``many`` pixels along one axis.

    Both upsampling and smoothing are linear and work on each axis by itself, so two small matrices do what a
    blur of whole maps would, at 256 px in a thousandth of the time.
    """
    sigma = many / few / 2
    reach = min(round(3 * sigma), many - 1)  # reflecting the border can't reach further than the image itself
    distance = torch.arange(-reach, reach + 1, device=device) / sigma
    kernel = torch.softmax(-(distance**2) / 2, dim=0)
    identity = torch.eye(few, device=device).unsqueeze(1)
    fine = nn.functional.interpolate(identity, many, mode="linear", align_corners=False)
    fine = nn.functional.pad(fine, (reach, reach), mode="reflect")
    return nn.functional.conv1d(fine, kernel.view(1, 1, -1)).squeeze(1).mT
