"""The classifier detector: learn to distinguish normal from augmented images, then score the learned features.

The two-stage recipe of Sohn et al., ICLR 2021, with the proxy task of Li et al., CVPR 2021 (CutPaste).
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn

from detectors.base import Progress
from detectors.devices import deterministic
from detectors.encoders import EncoderSpec, reduced
from detectors.images import Images, as_float, as_images
from detectors.kind import Kind
from detectors.presets import Preset, require
from detectors.training import sgd, train

# Li et al., CVPR 2021 (CutPaste), A.1, for pretrained encoders: 10 epochs of the head, then 64 of all layers.
FINE_TUNING_RATE = 1e-4
HEAD_FIRST = 10 / 74


@dataclass(frozen=True)
class ClassifierSettings:
    """One training: the encoder, the head, and the schedule. Sizes in pixels, ``batch`` in normal images per step.

    A step sees ``batch`` normal images and as many of each pseudo-anomaly class. ``jitter`` is the strength of
    the colour jitter on every input (0: none). The encoder sees ``image_size``: images are ``reduction`` times as large
    along a side, and averaged, unless a pretrained encoder brings them to its own size.

    The encoder learns at ``encoder_learning_rate``, after a share ``head_first`` of the steps in which the head learns
    alone. None: of a pretrained one 1e-4 and 10 / 74, as Li et al., CVPR 2021 (CutPaste, A.1), fine-tune, whose batch
    normalisation stays as it was; from random weights ``learning_rate``, and no such steps. Raises InputError for an
    unknown encoder and a value out of range.
    """

    encoder: str | EncoderSpec
    image_size: int
    head: tuple[int, ...]
    steps: int
    batch: int
    learning_rate: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 3e-5
    jitter: float = 0.0
    reduction: int = 1
    encoder_learning_rate: float | None = None
    head_first: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder", EncoderSpec.canonical(self.encoder))
        object.__setattr__(self, "head", tuple(self.head))
        rate, share = self.encoder_learning_rate, self.head_first
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
                ("encoder_learning_rate", rate is None or 0 <= rate < math.inf, "must be finite and >= 0", "1e-4"),
                ("head_first", share is None or 0 <= share <= 1, "must be a share of the steps", "0.1"),
            ),
        )

    @property
    def encoder_spec(self) -> EncoderSpec:
        """The specification of ``encoder``."""
        return EncoderSpec.of(self.encoder)

    @property
    def encoder_rate(self) -> float:
        """The learning rate of the encoder."""
        if self.encoder_learning_rate is not None:
            return self.encoder_learning_rate
        return FINE_TUNING_RATE if self.encoder_spec.is_pretrained else self.learning_rate

    @property
    def head_steps(self) -> int:
        """How many steps come first in which the head learns alone."""
        if self.head_first is not None:
            return round(self.head_first * self.steps)
        return round(HEAD_FIRST * self.steps) if self.encoder_spec.is_pretrained else 0


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

    @classmethod
    def needs(cls, settings: ClassifierSettings) -> int:
        return max(settings.image_size, settings.encoder_spec.input_size or 0)

    def build_encoder(self, channels: int) -> nn.Module:
        return self.settings.encoder_spec.build(channels, self.sees)

    @property
    def reduction(self) -> int:
        resizes = self.settings.encoder_spec.input_size is not None
        return 1 if resizes and self.crop is None else self.settings.reduction

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
        settings = self.settings
        first = encoder if settings.head_steps == 0 else _HeadFirst(encoder, settings.head_steps)
        model = nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        rates = [(encoder, settings.encoder_rate), (head, settings.learning_rate)]
        with deterministic(self.device):
            losses = train(
                model,
                reduced(as_float(clean).to(self.device), self.reduction),
                self.augmentation.parts,
                settings,
                crop_size=self.crop,
                seed=self.seed,
                optimizer=sgd(model, settings, rates),
                on_progress=on_progress,
            )
        self.losses = losses
        self._set_encoder(encoder, channels)
        return self

    def _first_model(self, channels: int) -> tuple[nn.Module, nn.Module]:
        """Encoder and head with their first weights, which the seed decides."""
        widths = (self.settings.encoder_spec.width, *self.settings.head)
        with self._first_weights():
            encoder = self.build_encoder(channels)
            head = _head(widths, 1 + len(self.augmentation.parts))
        return self._placed(encoder), head.to(self.device)


class _HeadFirst(nn.Module):
    """An encoder that learns only after a number of steps; until then, what it computes has no gradient."""

    def __init__(self, encoder: nn.Module, steps: int) -> None:
        super().__init__()
        self.encoder, self.steps_left = encoder, steps

    def forward(self, images: Tensor) -> Tensor:
        if self.steps_left == 0:
            return self.encoder(images)
        self.steps_left -= 1
        with torch.no_grad():
            return self.encoder(images)


def _head(widths: tuple[int, ...], classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
