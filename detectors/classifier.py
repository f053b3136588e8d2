"""The classifier detector: learn to tell normal from augmented images, then fit a density to the features.

The two-stage recipe of Sohn et al., ICLR 2021, with the proxy task of Li et al., CVPR 2021 (CutPaste).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn

from augmentations import Augmentation, InputError, make
from augmentations.randomness import generator
from detectors.base import Detector, Images, as_float, as_images, pieces
from detectors.devices import repeatable, resolve
from detectors.encoders import ENCODERS, pool
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
    densities: tuple[str, ...] = ("scorer", "spatial")  # what the second stage fits

    # Absent until they are made.
    encoder: nn.Sequential
    scorer: Scorer
    spatial: Gaussian

    def __init__(
        self,
        augmentation: Augmentation,
        settings: Settings,
        *,
        seed: int = 0,
        scorer_name: str = "gaussian",
        device: torch.device | str = "auto",
    ) -> None:
        self.augmentation = augmentation
        self.settings = self.own_settings(settings)
        self.seed = seed
        self.scorer_name = scorer_name
        self.score_is_distance = scorer(scorer_name).score_is_distance
        self.device = resolve(device)
        self.losses: Tensor | None = None

    @classmethod
    def own_settings(cls, settings: Settings) -> Settings:
        """The settings that a detector of this kind trains with, when it is given these."""
        return settings

    def fit(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        """Train on normal images, then fit the scorer to them. Raises TrainingDivergedError, InputError."""
        return self.train(images, on_progress=on_progress).fit_scorer(images)

    def train(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        """The first stage: the encoder. Raises as ``fit`` does, and then leaves the detector as it was."""
        clean = as_images(images)
        encoder, head = self._new_model(clean.shape[1])
        model = nn.Sequential(encoder, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        with repeatable(self.device):
            self.losses = train(
                model,
                as_float(clean).to(self.device),
                self.augmentation.parts,
                self.settings,
                seed=self.seed,
                on_progress=on_progress,
            )
        self._take(encoder, clean.shape[1])
        return self

    def leave_untrained(self, images: Images) -> Self:
        """The floor that a training must exceed: the encoder as ``train`` would begin with it."""
        channels = as_images(images).shape[1]
        self.losses = None
        self._take(self._new_model(channels)[0], channels)
        return self

    def _new_model(self, channels: int) -> tuple[nn.Sequential, nn.Sequential]:
        """Encoder and head with their first weights, which the seed decides."""
        width = ENCODERS[self.settings.encoder].width
        with torch.random.fork_rng(devices=[]):
            # Layers draw their first weights from the global generator; torch.manual_seed would also touch those
            # of the other devices.
            torch.default_generator.manual_seed(generator(self.seed, "weights").initial_seed())
            encoder = self._new_encoder(channels)
            head = _head((width, *self.settings.head), 1 + len(self.augmentation.parts))
        return self._placed(encoder), head.to(self.device)

    def _take(self, encoder: nn.Sequential, channels: int) -> None:
        self.channels, self.encoder = channels, encoder.eval()
        for stale in self.densities:
            vars(self).pop(stale, None)

    def fit_scorer(self, images: Images) -> Self:
        """The second stage: the densities of pooled and of spatial features of un-augmented images."""
        whole = as_images(images)
        share = max(1, LOCATION_ROWS // len(whole))
        source = generator(self.seed, "locations")
        pooled, rows = [], []
        for features in self._features(whole):
            pooled.append(pool(features))
            rows.append(some_rows(locations(features), share, source))
        fitted = scorer(self.scorer_name).fit(torch.cat(pooled)), Gaussian.fit(torch.cat(rows))
        self.scorer, self.spatial = fitted
        return self

    def embed(self, images: Images) -> Tensor:
        return torch.cat([pool(features).cpu() for features in self._features(images)])

    def score(self, images: Images) -> Tensor:
        self._require("scorer")
        return torch.cat([self.scorer.score(pool(features)).cpu() for features in self._features(images)])

    def score_embeddings(self, embeddings: Tensor) -> Tensor | None:
        self._require("scorer")
        return self.scorer.score(embeddings.to(self.device)).cpu()

    def score_map(self, images: Images) -> Tensor:
        self._require("spatial")
        whole = as_images(images)
        return torch.cat([self._map(features, whole).cpu() for features in self._features(whole)])

    def score_and_map(self, images: Images) -> tuple[Tensor, Tensor]:
        self._require("scorer")
        self._require("spatial")
        whole = as_images(images)
        both = [(self.scorer.score(pool(f)).cpu(), self._map(f, whole).cpu()) for f in self._features(whole)]
        scores, maps = zip(*both, strict=True)
        return torch.cat(scores), torch.cat(maps)

    def _map(self, features: Tensor, images: Tensor) -> Tensor:
        return upsample(self.spatial.score(locations(features)), (images.shape[2], images.shape[3]))

    @torch.no_grad()
    def pseudo_anomalies(self, images: Images, generator: torch.Generator) -> Tensor:
        clean = as_images(images)
        drawn = self.augmentation.sample(len(clean), (clean.shape[2], clean.shape[3]), generator)
        made, start = [], 0
        for piece in pieces(clean):
            some = {name: value[start : start + len(piece)] for name, value in drawn.items()}
            made.append(self.augmentation.apply(as_float(piece).to(self.device), some).cpu())
            start += len(piece)
        return torch.cat(made)

    @torch.no_grad()
    def _features(self, images: Images) -> Iterator[Tensor]:
        self._require("encoder")
        for batch in self.batches(images):
            with repeatable(self.device):
                features = self.encoder(batch.contiguous(memory_format=torch.channels_last))
            yield features

    def _new_encoder(self, channels: int) -> nn.Sequential:
        settings = self.settings
        return ENCODERS[settings.encoder].build(channels, settings.patch if settings.patch else settings.image_size)

    def _placed(self, encoder: nn.Sequential) -> nn.Sequential:
        return encoder.to(self.device).to(memory_format=torch.channels_last)

    def _require(self, part: str) -> None:
        if not hasattr(self, part):
            raise InputError("this detector", f"has no {part} yet", "call fit(images), or load one that was saved")

    def state(self) -> State:
        for part in ("encoder", *self.densities):
            self._require(part)
        settings = {
            "detector": self.name,
            "augmentation": self.augmentation.name,
            "hyperparameters": self.augmentation.hyperparameters(),
            "settings": self.settings.to_json(),
            "seed": self.seed,
            "scorer": self.scorer_name,
            "channels": self.channels,
        }
        fitted = {
            f"{part}.{name}": tensor for part in self.densities for name, tensor in getattr(self, part).state().items()
        }
        return State(settings, self.trained_state(), fitted)

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors that training made. Raises InputError before it."""
        self._require("encoder")
        return {f"encoder.{name}": tensor for name, tensor in self.encoder.state_dict().items()}

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> Self:
        """The detector whose ``state`` this is. Raises InputError when a part is missing or does not fit."""
        saved = state.settings
        try:
            settings = Settings.from_json(saved["settings"])
            augmentation = make(saved["augmentation"], **saved["hyperparameters"])
            detector = cls(augmentation, settings, seed=saved["seed"], scorer_name=saved["scorer"], device=device)
            detector.channels = saved["channels"]
            with torch.random.fork_rng(devices=[]):  # first weights are drawn, then replaced
                encoder = detector._new_encoder(detector.channels).eval()
            encoder.load_state_dict(within(state.trained, "encoder."))
            detector.encoder = detector._placed(encoder)
            detector._restore({name: tensor.to(detector.device) for name, tensor in state.scorer.items()}, saved)
        except (KeyError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                "a saved detector", f"is not whole ({type(error).__name__}: {reason})", "fit and save it again"
            ) from error
        return detector

    def _restore(self, fitted: dict[str, Tensor], saved: dict[str, Any]) -> None:
        """The densities, from what ``state`` made of them."""
        self.scorer = scorer(self.scorer_name).from_state(within(fitted, "scorer."))
        self.spatial = Gaussian.from_state(within(fitted, "spatial."))

    def with_scorer(self, name: str, images: Images) -> Self:
        """The same trained encoder with another scorer, fitted to ``images``. Raises InputError before training."""
        self._require("encoder")
        other = type(self)(self.augmentation, self.settings, seed=self.seed, scorer_name=name, device=self.device)
        other.channels, other.encoder, other.losses = self.channels, self.encoder, self.losses
        return other.fit_scorer(images)


def locations(features: Tensor) -> Tensor:
    """(N,d,h,w) spatial features to (N,h,w,d), L2-normalised at each location."""
    return nn.functional.normalize(features.movedim(1, -1), dim=-1)


def some_rows(places: Tensor, share: int, source: torch.Generator) -> Tensor:
    """(N,h,w,d) features of locations to (M,d): up to ``share`` of each image, drawn without replacement."""
    rows = places.flatten(1, 2)
    chosen = torch.rand(rows.shape[:2], generator=source).argsort(1)[:, :share].to(rows.device)
    return rows.take_along_dim(chosen.unsqueeze(2), 1).flatten(0, 1)


def upsample(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """(N,h,w) scores of locations to (N,H,W): bilinear, then a Gaussian of half a location's spacing."""
    rows, columns = (_spread(few, many, scores.device) for few, many in zip(scores.shape[1:], size, strict=True))
    return rows @ scores @ columns.mT


def _spread(few: int, many: int, device: torch.device) -> Tensor:
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


def _head(widths: tuple[int, ...], classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def within(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
