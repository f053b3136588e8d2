"""Raw pixels: what a detector without an encoder and without training makes of the images."""

from dataclasses import dataclass

from torch import Tensor, nn

from detectors.kind import Kind
from detectors.presets import require
from detectors.scoring import TwoStageModule


@dataclass(frozen=True)
class PixelsSettings:
    """Images of ``image_size`` px are averaged to ``side`` px.

    A Gaussian must not have far more dimensions than images. Raises InputError for a size below 1.
    """

    image_size: int
    side: int = 16

    def __post_init__(self) -> None:
        names = ("image_size", "side")
        require(self, [(name, getattr(self, name) >= 1, "must be at least 1 px", "16") for name in names])


class PixelsModule(TwoStageModule):
    """Pixels as they are: their values, and not only their direction, say what is normal."""

    def embed(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(features.flatten(1), dim=1)

    def rows(self, features: Tensor) -> Tensor:
        return features.flatten(1)

    def locations(self, features: Tensor) -> Tensor:
        return features.movedim(1, -1)


class Pixels(Kind):
    """A scorer on raw pixels; it learns against nothing."""

    name = "pixels"
    Settings = PixelsSettings
    settings: PixelsSettings
    uses_augmentation = False
    learns_encoder = False
    maps_per_location = True

    def build_encoder(self, channels: int) -> nn.Module:
        return nn.AdaptiveAvgPool2d(self.settings.side)

    def scoring_module(self) -> PixelsModule:
        return PixelsModule(self.encoder, getattr(self, "scorer", None), getattr(self, "map_scorer", None))

    @classmethod
    def scores_embeddings(cls, settings: PixelsSettings) -> bool:
        return False  # a score is one of pixels, whose length the embedding has lost
