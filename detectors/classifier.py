"""The classifier detector: learn to tell normal from augmented images, then fit a density to the features.

The two-stage recipe of Sohn et al., ICLR 2021, with the proxy task of Li et al., CVPR 2021 (CutPaste).
"""

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from augmentations import Augmentation, make
from augmentations.randomness import generator
from detectors.base import Detector, Images, as_float, as_images
from detectors.encoders import ENCODERS, WIDTHS, pool
from detectors.files import State
from detectors.gaussian import Gaussian
from detectors.scorers import Scorer, scorer
from detectors.settings import Settings
from detectors.training import Progress, train

LOCATION_ROWS = 20_000  # rows that the spatial Gaussian is fitted to, at most: as Sohn et al. cap theirs


class Classifier(Detector):
    """An encoder trained to tell normal images from their pseudo anomalies, and a scorer on its features.

    score: the scorer's, on L2-normalised pooled features of the normal train images.
    score_map: the distance of each location's features to one Gaussian over the locations of all train images,
    upsampled bilinearly and smoothed to image size.
    """

    name = "classifier"

    def __init__(
        self,
        augmentation: Augmentation,
        settings: Settings,
        *,
        seed: int = 0,
        scorer_name: str = "gaussian",
        device: torch.device | str = "cpu",
    ) -> None:
        self.augmentation = augmentation
        self.settings = settings
        self.seed = seed
        self.scorer_name = scorer_name
        self.score_is_distance = scorer(scorer_name).score_is_distance
        self.device = torch.device(device)
        self.losses: Tensor | None = None

    def fit(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        """Train on normal images, then fit the scorer to them. Raises TrainingDivergedError, InputError."""
        return self.train(images, on_progress=on_progress).fit_scorer(images)

    def train(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        """The first stage: the encoder."""
        clean = as_images(images)
        self.channels = clean.shape[1]
        with torch.random.fork_rng(devices=[]):
            # Layers draw their first weights from the global generator.
            torch.manual_seed(generator(self.seed, "weights").initial_seed())
            self.encoder = ENCODERS[self.settings.encoder](self.channels, self.settings.image_size)
            width = WIDTHS[self.settings.encoder]
            head = _head((width, *self.settings.head), 1 + len(self.augmentation.parts))
        self._place()
        model = nn.Sequential(self.encoder, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).to(self.device)
        self.losses = train(
            model,
            as_float(clean).to(self.device),
            self.augmentation.parts,
            self.settings,
            seed=self.seed,
            on_progress=on_progress,
        )
        self.encoder.eval()
        return self

    def fit_scorer(self, images: Images) -> Self:
        """The second stage: the densities of pooled and of spatial features of un-augmented images."""
        features = torch.cat(list(self._features(images)))
        self.scorer: Scorer = scorer(self.scorer_name).fit(pool(features))
        rows = locations(features).flatten(0, 2)
        kept = torch.randperm(len(rows), generator=generator(self.seed, "locations"))[:LOCATION_ROWS]
        self.spatial = Gaussian.fit(rows[kept.to(rows.device)])
        return self

    def embed(self, images: Images) -> Tensor:
        return torch.cat([pool(features).cpu() for features in self._features(images)])

    def score(self, images: Images) -> Tensor:
        return torch.cat([self.scorer.score(pool(features)).cpu() for features in self._features(images)])

    def score_map(self, images: Images) -> Tensor:
        size = as_images(images).shape[-2:]
        return torch.cat([upsample(self.spatial.score(locations(f)), size).cpu() for f in self._features(images)])

    def pseudo_anomalies(self, images: Images, generator: torch.Generator) -> Tensor:
        clean = as_float(as_images(images))
        parameters = self.augmentation.sample(len(clean), (clean.shape[2], clean.shape[3]), generator)
        return self.augmentation.apply(clean.to(self.device), parameters).cpu()

    @torch.no_grad()
    def _features(self, images: Images) -> Iterator[Tensor]:
        for batch in self.batches(images):
            yield self.encoder(batch.contiguous(memory_format=torch.channels_last))

    def _place(self) -> None:
        self.encoder = self.encoder.to(self.device, memory_format=torch.channels_last)

    def state(self) -> State:
        settings = {
            "detector": self.name,
            "augmentation": self.augmentation.name,
            "hyperparameters": self.augmentation.hyperparameters(),
            "settings": self.settings.to_json(),
            "seed": self.seed,
            "scorer": self.scorer_name,
            "channels": self.channels,
        }
        fitted = {f"scorer.{name}": tensor for name, tensor in self.scorer.state().items()}
        fitted |= {f"spatial.{name}": tensor for name, tensor in self.spatial.state().items()}
        return State(settings, self.trained_state(), fitted)

    def trained_state(self) -> dict[str, Tensor]:
        return {f"encoder.{name}": tensor for name, tensor in self.encoder.state_dict().items()}

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> Self:
        saved = state.settings
        settings = Settings.from_json(saved["settings"])
        detector = cls(
            make(saved["augmentation"], **saved["hyperparameters"]),
            settings,
            seed=saved["seed"],
            scorer_name=saved["scorer"],
            device=device,
        )
        detector.channels = saved["channels"]
        detector.encoder = ENCODERS[settings.encoder](detector.channels, settings.image_size).eval()
        detector.encoder.load_state_dict(_within(state.trained, "encoder."))
        detector._place()
        fitted = {name: tensor.to(detector.device) for name, tensor in state.scorer.items()}
        detector.scorer = scorer(detector.scorer_name).from_state(_within(fitted, "scorer."))
        detector.spatial = Gaussian.from_state(_within(fitted, "spatial."))
        return detector

    def with_scorer(self, name: str, images: Images) -> "Classifier":
        """The same trained encoder with another scorer, fitted to ``images``."""
        other = Classifier(
            self.augmentation, self.settings, seed=self.seed, scorer_name=name, device=self.device
        )
        other.channels, other.encoder, other.losses = self.channels, self.encoder, self.losses
        return other.fit_scorer(images)


def locations(features: Tensor) -> Tensor:
    """(N,d,h,w) spatial features to (N,h,w,d), L2-normalised at each location."""
    return nn.functional.normalize(features.movedim(1, -1), dim=-1)


def upsample(scores: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """(N,h,w) scores of locations to (N,H,W): bilinear, then a Gaussian of half a location's spacing."""
    whole = nn.functional.interpolate(scores[:, None], tuple(size), mode="bilinear", align_corners=False)
    spacing = size[0] / scores.shape[1], size[1] / scores.shape[2]
    sigma = [max(spacing[1] / 2, 0.1), max(spacing[0] / 2, 0.1)]
    limit = 2 * min(size) - 1  # reflecting the border can't reach further than the image itself
    kernel = [min(2 * round(3 * s) + 1, limit) for s in sigma]
    return gaussian_blur(whole, kernel, sigma)[:, 0]


def _head(widths: tuple[int, ...], classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def _within(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
