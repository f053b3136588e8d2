"""What kinds with a proxy task of their own share: an encoder and a head that learn it from normal images alone.

The two-stage recipe of Sohn et al., ICLR 2021: the head is left out when features are scored.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from augmentations.randomness import generator
from detectors.base import Progress
from detectors.devices import deterministic
from detectors.encoders import EncoderSpec, levels, reduced
from detectors.images import Images, as_float, as_images
from detectors.kind import Kind
from detectors.presets import require

# The published trainings last for passes over the normal images; a training of ours for steps. So many passes over a
# class of CIFAR-10 are meant.
PUBLISHED_PASSES, PUBLISHED_IMAGES = 2048, 5_000
DIAGNOSED = 1_000  # train images that what is said of a finished training is computed from, at most
HELD_OUT_SHARE, MOST_HELD_OUT, FEWEST = 0.1, 100, 20  # of the images; of fewer than the last, none


def plain_encoder(encoder: str | Mapping[str, Any] | EncoderSpec) -> str | EncoderSpec:
    """An encoder as settings keep it: by its name where that says all. Raises InputError as ``EncoderSpec`` does."""
    spec = EncoderSpec.of(encoder)
    return spec.name if spec == EncoderSpec(spec.name) else spec


@dataclass(frozen=True)
class ProxySettings:
    """One training: the encoder, the head, the schedule, and the views. Sizes in pixels, ``batch`` in images per step.

    head: the widths of the hidden layers between the encoder and the task; none: the task sees the pooled features.
    crop, hflip, jitter, gray: how random views differ, as ``detectors.views.sample_views`` draws them. The encoder sees
    ``image_size``: images are ``reduction`` times as large along a side, and averaged.

    Raises InputError for an unknown encoder and a value out of range.
    """

    encoder: str | EncoderSpec
    image_size: int
    head: tuple[int, ...]
    steps: int
    batch: int
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 3e-4
    crop: float = 0.5
    hflip: bool = True
    jitter: float = 0.4
    gray: float = 0.2
    reduction: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder", plain_encoder(self.encoder))
        object.__setattr__(self, "head", tuple(self.head))
        require(
            self,
            (
                ("image_size", self.image_size >= 1, "must be at least 1 px", "64"),
                ("head", all(width >= 1 for width in self.head), "must be widths of at least 1", "(128, 128)"),
                ("steps", self.steps >= 1, "must be at least 1", "500"),
                ("batch", self.batch >= 2, "must be at least 2 images, to normalise over", "32"),
                ("learning_rate", 0 < self.learning_rate < math.inf, "must be finite and > 0", "0.01"),
                ("momentum", 0 <= self.momentum < 1, "must be in [0, 1)", "0.9"),
                ("weight_decay", 0 <= self.weight_decay < math.inf, "must be finite and >= 0", "3e-4"),
                ("crop", 0 < self.crop <= 1, "must be a share of the image's side in (0, 1]", "0.5"),
                ("jitter", 0 <= self.jitter <= 0.5, "must be in [0, 0.5]", "0.4"),
                ("gray", 0 <= self.gray <= 1, "must be a share in [0, 1]", "0.2"),
                ("reduction", self.reduction >= 1, "must be at least 1", "2"),
            ),
        )


class Headed(nn.Module):
    """An encoder with the head that training put on it, for scores that need both."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: Tensor) -> Tensor:
        """(N,d,h,w) features of the encoder."""
        return self.body(images)

    def levels(self, images: Tensor) -> list[Tensor]:
        return levels(self.body, images)


class InFloat32(nn.Module):
    """A head that autocast leaves alone: of a few rows, casting all weights takes longer than bf16 saves."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, pooled: Tensor) -> Tensor:
        """What the head makes of pooled features (N,d)."""
        with torch.autocast(pooled.device.type, enabled=False):
            return self.head(pooled.float())


class ProxyKind(Kind):
    """A kind that learns a proxy task from normal images, without an augmentation.

    A subclass gives ``build_head``, and in ``learn`` the batches and the loss. What a finished training is judged by,
    without labels, are its ``diagnostics``, which it names in ``DIAGNOSTICS``.
    """

    uses_augmentation = False
    holds_out: ClassVar[bool] = False  # whether diagnostics need images that the task was not learned from
    DIAGNOSTICS: ClassVar[tuple[str, ...]] = ()
    settings: ProxySettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.diagnostics: dict[str, float | None] = dict.fromkeys(self.DIAGNOSTICS)

    @property
    def needs_head(self) -> bool:
        """Whether scores need the head, which is then part of the encoder that is kept."""
        return False

    @abstractmethod
    def build_head(self) -> nn.Module:
        """The head, with its first weights: pooled features (N,d) to what the loss sees."""

    @abstractmethod
    def learn(self, model: nn.Module, images: Tensor, on_progress: Progress | None) -> Tensor:
        """Train encoder, pooling and head in place, on images on the device; returns the loss of every step."""

    def diagnose(self, model: nn.Module, images: Tensor) -> dict[str, float | None]:
        """The diagnostics of a trained model, by name; it is in evaluation mode."""
        return {}

    def check_images(self, images: Tensor) -> None:
        """Raise InputError for images that this task can't be learned from."""

    def build_encoder(self, channels: int) -> nn.Module:
        encoder = EncoderSpec.of(self.settings.encoder).build(channels, self.settings.image_size)
        return Headed(encoder, self.build_head()) if self.needs_head else encoder

    def train(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        clean = as_images(images)
        self.check_images(clean)
        channels = clean.shape[1]
        with self._first_weights():
            encoder = self.build_encoder(channels)
            if isinstance(encoder, Headed):
                body, head = encoder.body, encoder.head
            else:
                body, head = encoder, self.build_head()
        self._placed(encoder)
        model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), InFloat32(head.to(self.device)))
        seen = reduced(as_float(clean).to(self.device), self.reduction)
        seen = seen.contiguous(memory_format=torch.channels_last)
        learned, diagnosed = self._divided(seen)
        with deterministic(self.device):
            losses = self.learn(model, learned, on_progress)
            with torch.no_grad():
                diagnostics = self.diagnose(model.eval(), diagnosed[:DIAGNOSED])
        self.losses, self.diagnostics = losses, diagnostics
        self._set_encoder(encoder, channels)
        return self

    def _divided(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The images that the task is learned from, and those for diagnostics: others, where there are enough."""
        n = len(images)
        if not self.holds_out or n < FEWEST:
            return images, images
        order = torch.randperm(n, generator=generator(self.seed, "train", "held out")).to(images.device)
        n_held_out = min(MOST_HELD_OUT, round(HELD_OUT_SHARE * n))
        return images[order[n_held_out:].sort().values], images[order[:n_held_out]]

    def random_init(self, images: Images) -> Self:
        self.diagnostics = dict.fromkeys(self.DIAGNOSTICS)
        return super().random_init(images)

    def take_training(self, other: Self) -> None:
        super().take_training(other)
        self.diagnostics = other.diagnostics

    def extra_state(self) -> dict[str, Any]:
        return dict(self.diagnostics)

    def restore_extra(self, saved: Mapping[str, Any]) -> None:
        self.diagnostics = {name: saved[name] for name in self.DIAGNOSTICS}


def mlp(widths: tuple[int, ...]) -> list[nn.Module]:
    """Hidden layers without bias, each normalised and rectified."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    return layers


def width_of(encoder: str | EncoderSpec) -> int:
    """d of the features of an encoder."""
    return EncoderSpec.of(encoder).width
