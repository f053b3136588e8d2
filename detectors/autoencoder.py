"""The autoencoder: learn to give back normal images, from pseudo anomalies of them or as they are.

The detector of Yoo et al., TMLR 2023, "Data augmentation is a hyperparameter", whose augmentation is to be chosen.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn

from augmentations import InputError
from augmentations.errors import unknown_name
from augmentations.randomness import generator, noise
from detectors.base import Progress
from detectors.devices import deterministic
from detectors.encoders import reduced
from detectors.images import Images, as_float, as_images
from detectors.kind import Kind
from detectors.presets import Preset, require
from detectors.scorers import Scorer
from detectors.scoring import TwoStageModule, upsample
from detectors.training import Drawn, Draws, adam, epochs, optimize

ERROR, SCORER = "error", "scorer"  # what gives the anomaly score of an image
LARGEST_SMALL_IMAGE = 64  # px; above, the published network has larger kernels, further apart
PUBLISHED_EPOCHS, PUBLISHED_BATCHES = 256, 5  # of 1,024 images each: those of a class of CIFAR-10
CLEAN_SHARE = 0.5  # of the inputs, where an augmentation changes whole images


@dataclass(frozen=True)
class AutoencoderSettings:
    """One training: the network and the schedule. Sizes in pixels, ``batch`` in images per step.

    widths: channels of the convolutions of the encoder, each ``stride`` apart with a kernel of ``kernel`` px; the
    decoder mirrors them. code: values that an image is reduced to. clean_share: of the inputs that are left as they
    are; None: half where the augmentation changes whole images, none where it is local. Asked to undo a flip of all
    images, it would flip normal ones too. score: "error", of the image given back, or "scorer", on the code. Images
    are ``reduction`` times ``image_size`` along a side, and averaged.

    Raises InputError for a value out of range.
    """

    image_size: int
    widths: tuple[int, ...]
    code: int
    steps: int
    batch: int
    kernel: int = 3
    stride: int = 2
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clean_share: float | None = None
    score: str = ERROR
    reduction: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        share = 0.0 if self.clean_share is None else self.clean_share
        reaches = 1 <= self.stride <= self.kernel
        require(
            self,
            (
                ("image_size", self.image_size >= 2, "must be at least 2 px", "32"),
                ("widths", min(self.widths, default=0) >= 1, "must be widths of at least 1", "(16, 32, 64)"),
                ("code", self.code >= 1, "must be at least 1", "64"),
                ("steps", self.steps >= 1, "must be at least 1", "1000"),
                ("batch", self.batch >= 2, "must be at least 2 images, to normalise over", "64"),
                ("kernel", self.kernel >= 1 and self.kernel % 2 == 1, "must be odd", "3"),
                ("stride", reaches, "must be from 1 px to kernel", "2"),
                ("learning_rate", 0 < self.learning_rate < math.inf, "must be finite and > 0", "1e-3"),
                ("weight_decay", 0 <= self.weight_decay < math.inf, "must be finite and >= 0", "0"),
                ("clean_share", 0 <= share < 1, "must be in [0, 1)", "0.5"),
                ("reduction", self.reduction >= 1, "must be at least 1", "2"),
            ),
        )
        if self.score not in (ERROR, SCORER):
            raise unknown_name("score", self.score, [ERROR, SCORER])


class Autoencoding(nn.Module):
    """Convolutions to a code, and back; ``forward`` is the encoder's half, images to codes (N,code,1,1)."""

    def __init__(self, channels: int, settings: AutoencoderSettings) -> None:
        super().__init__()
        kernel, stride, widths = settings.kernel, settings.stride, (channels, *settings.widths)
        padding = kernel // 2
        sides = [settings.image_size]
        down: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            down += [
                nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            sides.append((sides[-1] + 2 * padding - kernel) // stride + 1)
        shape = widths[-1], sides[-1], sides[-1]
        self.encode = nn.Sequential(*down, nn.Flatten(), nn.Linear(math.prod(shape), settings.code), nn.Tanh())
        up: list[nn.Module] = [
            nn.Linear(settings.code, math.prod(shape), bias=False),
            nn.BatchNorm1d(math.prod(shape)),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, shape),
        ]
        for i in reversed(range(len(settings.widths))):
            missing = sides[i] - ((sides[i + 1] - 1) * stride - 2 * padding + kernel)
            up.append(nn.ConvTranspose2d(widths[i + 1], widths[i], kernel, stride, padding, missing, bias=i == 0))
            up += [nn.BatchNorm2d(widths[i]), nn.ReLU(inplace=True)] if i else [nn.Sigmoid()]
        self.decode = nn.Sequential(*up)

    def forward(self, images: Tensor) -> Tensor:
        return self.encode(images)[:, :, None, None]


class AutoencoderModule(TwoStageModule):
    """The scoring graph: the squared error of an image given back, by pixel, and its mean or the score of the code."""

    def __init__(
        self,
        encoder: nn.Module,
        scorer: Scorer | None,
        map_scorer: Scorer | None,
        *,
        reduction: int = 1,
        scores_error: bool = True,
    ) -> None:
        super().__init__(encoder, scorer, map_scorer, reduction=reduction)
        self.scores_error = scores_error

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """(N,code,1,1) and the squared error of each pixel (N,h,w), averaged over channels."""
        images = reduced(images, self.reduction)
        code = self.encoder(images)
        given_back = self.encoder.decode(code.flatten(1))  # type: ignore[operator]
        return code, (images - given_back).square().mean(1)

    def embed(self, features: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        return super().embed(features[0])

    def rows(self, features: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        return super().rows(features[0])

    def locations(self, features: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        return super().locations(features[0])

    def score(self, features: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        return features[1].mean((1, 2)) if self.scores_error else super().score(features)  # type: ignore[arg-type]

    def map(self, features: tuple[Tensor, Tensor], size: tuple[int, int]) -> Tensor:  # type: ignore[override]
        return features[1] if self.reduction == 1 else upsample(features[1], size)


class Autoencoder(Kind):
    """A network that gives back images through a narrow code, trained to give back normal images from augmented ones.

    score: the mean squared error of an image given back, or the scorer's on its code. score_map: the squared error by
    pixel. Only images of the size trained on can be scored.
    """

    name = "autoencoder"
    Settings = AutoencoderSettings
    settings: AutoencoderSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.settings.score == ERROR:
            self.score_is_distance = True

    @classmethod
    def settings_for(cls, preset: Preset) -> AutoencoderSettings:
        """The training of Yoo et al. under "paper"; else five times the preset's steps, on twice its images."""
        size = preset.image_size
        if preset.is_published and size <= LARGEST_SMALL_IMAGE:
            network: dict[str, Any] = {"widths": (64, 128, 256, 512), "kernel": 3, "stride": 2, "code": 256}
        elif preset.is_published:
            network = {"widths": (64, 128, 256), "kernel": 5, "stride": 4, "code": 256}
        else:
            widest = max(preset.head, default=64)
            network = {"widths": (widest // 4, widest // 2, widest), "code": widest}
        if preset.is_published:
            return cls.Settings(size, steps=PUBLISHED_EPOCHS * PUBLISHED_BATCHES, batch=1024, **network)
        return cls.Settings(size, steps=5 * preset.steps, batch=2 * preset.batch, **network)

    @classmethod
    def uses_scorer(cls, settings: AutoencoderSettings) -> bool:
        return settings.score == SCORER

    def build_encoder(self, channels: int) -> Autoencoding:
        return Autoencoding(channels, self.settings)

    def scoring_module(self) -> AutoencoderModule:
        scorers = getattr(self, "scorer", None), getattr(self, "map_scorer", None)
        scores_error = self.settings.score == ERROR
        return AutoencoderModule(self.encoder, *scorers, reduction=self.reduction, scores_error=scores_error)

    @classmethod
    def scores_embeddings(cls, settings: Any) -> bool:
        return settings.score != ERROR

    def require_size(self, images: Tensor) -> Tensor:
        side = self.settings.image_size * self.reduction
        height, width = images.shape[2:]
        if (height, width) != (side, side):
            rule = f"this autoencoder is one of images of {side}x{side} px"
            raise InputError(f"images of {height}x{width} px", rule, "resize them, or choose another image_size")
        return images

    def batches(self, images: Images) -> Iterator[Tensor]:
        return super().batches(self.require_size(as_images(images)))

    def random_init(self, images: Images) -> Self:
        return super().random_init(self.require_size(as_images(images)))

    def train(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        clean = self.require_size(as_images(images))
        channels = clean.shape[1]
        encoder = self._first_encoder(channels)
        seen = reduced(as_float(clean).to(self.device), self.reduction).contiguous(memory_format=torch.channels_last)
        with deterministic(self.device):
            losses = self._learn(encoder, seen, on_progress)
        self.losses = losses
        self._set_encoder(encoder, channels)
        return self

    def _learn(self, encoder: nn.Module, images: Tensor, on_progress: Progress | None) -> Tensor:
        settings, device, augmentation = self.settings, images.device, self._augmentation
        order = epochs(len(images), settings, self.seed).to(device)
        draws = None
        if augmentation is not None:
            draws = Drawn(self._sampler((images.shape[2], images.shape[3])), settings.batch, settings.steps, device)

        def batch_of(step: int) -> tuple[Tensor, Tensor]:
            clean = images[order[step]]
            if draws is None or augmentation is None:
                return clean, clean
            drawn = dict(draws.at(step))
            stays = drawn.pop("stays")[:, None, None, None]
            return torch.where(stays, clean, augmentation.apply(clean, drawn)), clean

        return optimize(
            nn.Sequential(encoder, nn.Flatten(), encoder.decode),  # type: ignore[arg-type]
            batch_of,
            nn.functional.mse_loss,
            settings,
            device=device,
            optimizer=adam(encoder, settings),
            on_progress=on_progress,
        )

    def _sampler(self, size: tuple[int, int]) -> Any:
        """What draws an augmentation for a number of images, and which of them ("stays") it leaves alone."""
        source = generator(self.seed, "train", 0)
        chosen = generator(self.seed, "train", "clean")
        share = self.settings.clean_share
        if share is None:
            share = 0.0 if self.augmentation.is_local else CLEAN_SHARE

        @torch.no_grad()
        def sample(n: int) -> Draws:
            return {**self.augmentation.sample(n, size, source), "stays": noise(n, chosen) < share}

        return sample


class PlainAutoencoder(Autoencoder):
    """The autoencoder that is shown images as they are: the baseline of what an augmentation does for it."""

    name = "plain_autoencoder"
    uses_augmentation = False
