"""The classifier detector: learn to distinguish normal from augmented images, then score the learned features.

The two-stage recipe of Sohn et al., ICLR 2021, with the proxy task of Li et al., CVPR 2021 (CutPaste).
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from torch import nn

from augmentations.errors import unknown_name
from detectors.base import Progress
from detectors.devices import deterministic
from detectors.encoders import ENCODERS, reduced
from detectors.images import Images, as_float, as_images
from detectors.kind import Kind
from detectors.presets import Preset, require
from detectors.training import train


@dataclass(frozen=True)
class ClassifierSettings:
    """One training: the encoder, the head, and the schedule. Sizes in pixels, ``batch`` in normal images per step.

    A step sees ``batch`` normal images and as many of each pseudo-anomaly class. ``jitter`` is the strength of
    the colour jitter on every input (0: none). The encoder sees ``image_size``: images are ``reduction`` times as large
    along a side, and averaged. Raises InputError for an unknown encoder and a value out of range.
    """

    encoder: str
    image_size: int
    head: tuple[int, ...]
    steps: int
    batch: int
    learning_rate: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 3e-5
    jitter: float = 0.0
    reduction: int = 1

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise unknown_name("encoder", self.encoder, list(ENCODERS))
        object.__setattr__(self, "head", tuple(self.head))
        require(
            self,
            (
                ("image_size", self.image_size >= 1, "must be at least 1 px", "64"),
                ("head", all(width >= 1 for width in self.head), "must be widths of at least 1", "(512, 128)"),
                ("steps", self.steps >= 1, "must be at least 1", "200"),
                ("batch", self.batch >= 2, "must be at least 2 images, to normalise over", "32"),
                ("learning_rate", 0 < self.learning_rate < math.inf, "must be finite and > 0", "0.03"),
                ("momentum", 0 <= self.momentum < 1, "must be in [0, 1)", "0.9"),
                ("weight_decay", 0 <= self.weight_decay < math.inf, "must be finite and >= 0", "3e-5"),
                ("jitter", 0 <= self.jitter <= 0.5, "must be in [0, 0.5]", "0.1"),
                ("reduction", self.reduction >= 1, "must be at least 1", "2"),
            ),
        )


class Classifier(Kind):
    """An encoder trained to distinguish normal images from their pseudo anomalies, and scorers on its features.

    score: the scorer's, on L2-normalised pooled features. score_map: the same scorer's, fitted to the features of
    locations of all train images, upsampled bilinearly and smoothed to image size.
    """

    name = "classifier"
    Settings = ClassifierSettings
    settings: ClassifierSettings

    @classmethod
    def settings_for(cls, preset: Preset) -> ClassifierSettings:
        return ClassifierSettings(
            preset.encoder, preset.image_size, preset.head, preset.steps, preset.batch, jitter=preset.jitter
        )

    def build_encoder(self, channels: int) -> nn.Sequential:
        return ENCODERS[self.settings.encoder].build(channels, self.sees)

    @property
    def sees(self) -> int:
        """Side in pixels of the images that the encoder is built for."""
        return self.settings.image_size

    @property
    def crop(self) -> int | None:
        """Side in pixels of the random crops that training sees; None: whole images."""
        return None

    def train(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        clean = as_images(images)
        channels = clean.shape[1]
        encoder, head = self._first_model(channels)
        model = nn.Sequential(encoder, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        with deterministic(self.device):
            losses = train(
                model,
                reduced(as_float(clean).to(self.device), self.reduction),
                self.augmentation.parts,
                self.settings,
                crop_size=self.crop,
                seed=self.seed,
                on_progress=on_progress,
            )
        self.losses = losses
        self._set_encoder(encoder, channels)
        return self

    def _first_model(self, channels: int) -> tuple[nn.Module, nn.Module]:
        """Encoder and head with their first weights, which the seed decides."""
        widths = (ENCODERS[self.settings.encoder].width, *self.settings.head)
        with self._first_weights():
            encoder = self.build_encoder(channels)
            head = _head(widths, 1 + len(self.augmentation.parts))
        return self._placed(encoder), head.to(self.device)


def _head(widths: tuple[int, ...], classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
