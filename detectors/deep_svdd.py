"""Deep SVDD: learn features of normal images that lie close to one centre.

Ruff et al., ICML 2018, "Deep one-class classification", in its one-class form. Their autoencoder, which gives the first
weights, is left out: the centre is that of random features.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from augmentations import InputError
from augmentations.errors import unknown_name
from detectors.base import Progress
from detectors.devices import deterministic
from detectors.encoders import EncoderSpec, levels, reduced
from detectors.images import Images, as_float, as_images, pieces
from detectors.kind import Kind
from detectors.presets import Preset, require
from detectors.proxy import PUBLISHED_IMAGES, plain_encoder, width_of
from detectors.scorers import Scorer
from detectors.scoring import TwoStageModule
from detectors.training import adam, epochs, optimize

CENTRE, SCORER = "centre", "scorer"  # what gives the anomaly score of an image
LEAST_OFFSET = 0.1  # of the centre from 0, in each dimension: at 0 it could be reached by weights of 0
COLLAPSED = 1e-3  # of the spread of embeddings before training, relative to their length; below, they are all the same
PUBLISHED_EPOCHS, PUBLISHED_BATCH = 150, 200


class TrainingCollapsedError(RuntimeError):
    """Training made the embeddings of all images the same."""


@dataclass(frozen=True)
class DeepSVDDSettings:
    """One training: the encoder and the schedule. Sizes in pixels, ``batch`` in images per step.

    score: "centre", the squared distance to it, or "scorer", on the features. The encoder sees ``image_size``: images
    are ``reduction`` times as large along a side, and averaged.

    Raises InputError for an unknown encoder, for one that is pretrained, and for a value out of range.
    """

    encoder: str
    image_size: int
    steps: int
    batch: int
    learning_rate: float = 1e-4
    weight_decay: float = 5e-7
    score: str = CENTRE
    reduction: int = 1

    def __post_init__(self) -> None:
        encoder = plain_encoder(self.encoder)
        if getattr(EncoderSpec.of(encoder), "is_pretrained", False):
            rule = "is pretrained with biases, by which all images could be given the same features"
            raise InputError(f"encoder={self.encoder!r}", rule, 'try "small", or another kind')
        object.__setattr__(self, "encoder", encoder)
        require(
            self,
            (
                ("image_size", self.image_size >= 1, "must be at least 1 px", "64"),
                ("steps", self.steps >= 1, "must be at least 1", "200"),
                ("batch", self.batch >= 2, "must be at least 2 images, to normalise over", "64"),
                ("learning_rate", 0 < self.learning_rate < math.inf, "must be finite and > 0", "1e-4"),
                ("weight_decay", 0 <= self.weight_decay < math.inf, "must be finite and >= 0", "5e-7"),
                ("reduction", self.reduction >= 1, "must be at least 1", "2"),
            ),
        )
        if self.score not in (CENTRE, SCORER):
            raise unknown_name("score", self.score, [CENTRE, SCORER])


class Centred(nn.Module):
    """An encoder without bias terms, and the centre (d,) of its pooled features of normal images."""

    centre: Tensor

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = without_bias(body)
        self.register_buffer("centre", torch.zeros(width))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)

    def levels(self, images: Tensor) -> list[Tensor]:
        return levels(self.body, images)


class DeepSVDDModule(TwoStageModule):
    """The scoring graph of squared distances to the centre; maps are the scorer's.

    The centre is that of pooled features: those of one location are far from it where all is normal.
    """

    encoder: Centred

    def score(self, features: Tensor) -> Tensor:
        return (features.mean((2, 3)) - self.encoder.centre).square().sum(1)


class DeepSVDD(Kind):
    """An encoder trained to bring normal images close to a centre, which is that of its first features.

    score: the squared distance to the centre, or the scorer's. score_map: the scorer's, by location. What would let it
    give all images the same features is kept out: it has no bias terms and its centre is off 0; a training that
    collapses all the same is a TrainingCollapsedError.
    """

    name = "deep_svdd"
    Settings = DeepSVDDSettings
    settings: DeepSVDDSettings
    uses_augmentation = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.settings.score == CENTRE:
            self.score_is_distance = True

    @classmethod
    def settings_for(cls, preset: Preset) -> DeepSVDDSettings:
        """The rate, decay, batch and passes of Ruff et al. under "paper"; else the preset's steps, ten times as fast.

        The rate falls by one cosine, where theirs falls to a tenth after 50 passes.
        """
        if preset.is_published:
            steps = PUBLISHED_EPOCHS * (PUBLISHED_IMAGES // PUBLISHED_BATCH)
            return DeepSVDDSettings(preset.encoder, preset.image_size, steps, PUBLISHED_BATCH)
        return DeepSVDDSettings(preset.encoder, preset.image_size, preset.steps, 2 * preset.batch, learning_rate=1e-3)

    @classmethod
    def uses_scorer(cls, settings: DeepSVDDSettings) -> bool:
        return settings.score == SCORER

    def build_encoder(self, channels: int) -> Centred:
        body = EncoderSpec.of(self.settings.encoder).build(channels, self.settings.image_size)
        return Centred(body, width_of(self.settings.encoder))

    def scoring_module(self) -> TwoStageModule:
        if self.settings.score == SCORER:
            return super().scoring_module()
        scorers: tuple[Scorer | None, Scorer | None] = (
            getattr(self, "scorer", None),
            getattr(self, "map_scorer", None),
        )
        return DeepSVDDModule(self.encoder, *scorers, reduction=self.reduction)

    @classmethod
    def scores_embeddings(cls, settings: Any) -> bool:
        return settings.score != CENTRE

    def random_init(self, images: Images) -> Self:
        encoder, channels, _, _ = self._first(images)
        self.losses = None
        self._set_encoder(encoder, channels)
        return self

    def train(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        encoder, channels, seen, spread = self._first(images)
        settings, centre = self.settings, encoder.centre
        order = epochs(len(seen), settings, self.seed).to(self.device)
        with deterministic(self.device):
            losses = optimize(
                nn.Sequential(encoder, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
                lambda step: (seen[order[step]], centre),
                lambda outputs, centre: (outputs - centre).square().sum(1).mean(),
                settings,
                device=self.device,
                optimizer=adam(encoder, settings),
                on_progress=on_progress,
            )
            settle(encoder, seen, settings.batch)
            refuse_collapse(spread, spread_of(pooled(encoder, seen)), settings.steps)
        self.losses = losses
        self._set_encoder(encoder, channels)
        return self

    def _first(self, images: Images) -> tuple[Centred, int, Tensor, float]:
        """The encoder before training, its centre set; channels; images as it sees them; their features' spread."""
        clean = as_images(images)
        channels = clean.shape[1]
        encoder = self._first_encoder(channels)
        assert isinstance(encoder, Centred)
        seen = reduced(as_float(clean).to(self.device), self.reduction).contiguous(memory_format=torch.channels_last)
        with deterministic(self.device):
            settle(encoder, seen, self.settings.batch)
            features = pooled(encoder, seen)
        encoder.centre.copy_(off_zero(features.mean(0)))
        return encoder, channels, seen, spread_of(features)


def without_bias(network: nn.Module) -> nn.Module:
    """The network with no bias of convolutions and linear layers, and with normalisation that learns nothing.

    A bias alone could map all images to the centre.
    """
    for name, layer in network.named_children():
        if isinstance(layer, nn.BatchNorm2d):
            plain = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum or 0.1, affine=False)
            setattr(network, name, plain)
        else:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.bias = None
            without_bias(layer)
    return network


@torch.no_grad()
def settle(network: nn.Module, images: Tensor, batch: int) -> None:
    """Set the running means and variances of a network to those of a pass over all images; then evaluation mode.

    Without it they lag behind the weights, and distances to the centre would be those of another network.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
    network.train()
    for some in images.split(batch):
        network(some)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()


@torch.no_grad()
def pooled(network: nn.Module, images: Tensor) -> Tensor:
    """(N,d) features of images, averaged over locations."""
    return torch.cat([network(some).mean((2, 3)) for some in pieces(images)])


def off_zero(centre: Tensor) -> Tensor:
    """The centre, each of its values at least ``LEAST_OFFSET`` away from 0, on the side that it is on."""
    least = torch.where(centre < 0, -LEAST_OFFSET, LEAST_OFFSET)
    return torch.where(centre.abs() < LEAST_OFFSET, least, centre)


def spread_of(features: Tensor) -> float:
    """How far features (N,d) are from their mean, relative to their length."""
    length = features.norm().item()
    return (features - features.mean(0)).norm().item() / length if length else 0.0


def refuse_collapse(before: float, after: float, steps: int) -> None:
    """Raise TrainingCollapsedError where the spread of features is all but gone."""
    if after < COLLAPSED * before:
        raise TrainingCollapsedError(
            f"the features of all images became the same (their spread fell from {before:.3g} to {after:.3g} of their "
            f"length); try fewer steps than {steps} or a smaller learning rate"
        )
