"""What every detector does for those who use it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from augmentations import InputError
from detectors import files
from detectors.devices import deterministic
from detectors.images import Images, as_float, as_images, images_at_once
from detectors.scoring import ScoringModule

Progress = Callable[[int, float], None]


class Detector(ABC):
    """Fitted to normal images, it gives any image an anomaly score and a score map, higher = more anomalous.

    Images are (N,C,H,W) or (N,H,W) arrays or tensors, float in [0,1] or uint8; results are detached tensors on the
    CPU. Scores are of any scale and sign; ``score_is_distance`` says whether they are positive and distance-like,
    so that ratios and logarithms of them make sense.
    """

    name: ClassVar[str]
    score_is_distance: bool
    channels: int
    device: torch.device

    @abstractmethod
    def fit(self, images: Images, *, on_progress: Progress | None = None) -> Self:
        """Learn from normal images; ``on_progress`` is called with the step and its loss now and then."""

    @abstractmethod
    def module(self) -> ScoringModule:
        """The scoring graph, on the detector's device, in evaluation mode: scoring runs it, exports trace it.

        Raises:
            InputError: before ``fit``.
        """

    @abstractmethod
    def has_pseudo_anomalies(self) -> bool:
        """Whether ``pseudo_embeddings`` gives any: some kinds learn against nothing."""

    @abstractmethod
    def pseudo_anomalies(self, images: Images, generator: torch.Generator) -> Tensor | None:
        """(N,C,H,W) what the detector was trained against, made from these images; None if it learns against
        nothing, or against something that is no image, such as noise on features."""

    def pseudo_are_images(self) -> bool:
        """Whether what it learns against, if anything, can be shown as images."""
        return True

    def pseudo_embeddings(self, images: Images, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
        """Embeddings (N,d) and anomaly scores (N,) of what the detector was trained against, made from these images.

        Those of ``pseudo_anomalies``, unless a kind learns against something that is no image.
        """
        anomalies = self.pseudo_anomalies(images, generator)
        return None if anomalies is None else self.embed_and_score(anomalies)

    def draws_worth(self, wanted: int) -> int:
        """How many of the draws of its pseudo anomalies that are wanted as evidence are worth what they cost."""
        return wanted

    @abstractmethod
    def state(self) -> files.State:
        """Everything that ``from_state`` needs."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: files.State, device: torch.device) -> Self:
        """The detector whose ``state`` this is."""

    def save(self, path: str | Path) -> Path:
        """Write the detector to one safetensors file, settings as JSON in its header; returns the path."""
        state = self.state()
        return files.write(Path(path), state.trained | state.fitted, state.settings)

    def embed(self, images: Images) -> Tensor:
        """(N,d) L2-normalised embeddings."""
        module = self._embedding_module()
        return torch.cat([module.embed(features).cpu() for features in self._features(module, images)])

    def score(self, images: Images) -> Tensor:
        """(N,) anomaly scores."""
        module = self.module()
        whole = self.require_size(as_images(images))
        return torch.cat([module.score(features).cpu() for features in self._features(module, whole)])

    def embed_and_score(self, images: Images) -> tuple[Tensor, Tensor]:
        """``embed`` and ``score`` together, in one pass."""
        module = self.module()
        whole = self.require_size(as_images(images))
        pairs = [(module.embed(f).cpu(), module.score(f).cpu()) for f in self._features(module, whole)]
        embeddings, scores = zip(*pairs, strict=True)
        return torch.cat(embeddings), torch.cat(scores)

    def score_map(self, images: Images) -> Tensor:
        """(N,H,W) anomaly scores by pixel, of the size of the images."""
        module = self.module()
        whole = self.require_size(as_images(images))
        size = whole.shape[2], whole.shape[3]
        return torch.cat([module.map(features, size).cpu() for features in self._features(module, whole)])

    @torch.no_grad()
    def score_and_map(self, images: Images) -> tuple[Tensor, Tensor]:
        """``score`` and ``score_map`` together, in one pass."""
        module = self.module()
        pairs = []
        for batch in self.batches(self.require_size(as_images(images))):
            with deterministic(self.device):
                score, score_map = module(batch)
            pairs.append((score.cpu(), score_map.cpu()))
        scores, maps = zip(*pairs, strict=True)
        return torch.cat(scores), torch.cat(maps)

    def kind_of_scores(self) -> str:
        """What detectors have in common whose scores are alike but for their scale: such as a kind and a scorer."""
        return type(self).__qualname__

    def score_embeddings(self, embeddings: Tensor) -> Tensor | None:
        """(N,) anomaly scores of embeddings (N,d), or None where a score is more than a function of the embedding."""
        return None

    def require_size(self, images: Tensor) -> Tensor:
        """The images (N,C,H,W) as they are; InputError where their size is one that can't be scored."""
        return images

    def require_channels(self, images: Tensor) -> None:
        """Raise InputError for images (N,C,H,W) of other channels than the detector was trained on."""
        if images.shape[1] != self.channels:
            raise InputError(
                f"images with {images.shape[1]} channels",
                f"this detector was trained on {self.channels}",
                "convert them, or train on images like these",
            )

    def obstacle_to_export(self) -> str:
        """Why the scoring graph can't be exported; empty where it can."""
        return ""

    def pixels_evaluated(self, height: int, width: int) -> int:
        """How many pixels a forward pass of an image of this size takes: bounds the images in a batch."""
        return height * width

    def batches(self, images: Images) -> Iterator[Tensor]:
        """The images, checked, in pieces of bounded size, float32 and channels last on the detector's device."""
        whole = as_images(images)
        self.require_channels(whole)
        for piece in whole.split(images_at_once(self.pixels_evaluated(whole.shape[2], whole.shape[3]))):
            yield as_float(piece).to(self.device).contiguous(memory_format=torch.channels_last)

    def _embedding_module(self) -> ScoringModule:
        """A graph of which ``features`` and ``embed`` are used alone."""
        return self.module()

    @torch.no_grad()
    def _features(self, module: ScoringModule, images: Images) -> Iterator[Tensor]:
        for batch in self.batches(images):
            with deterministic(self.device):
                features = module.features(batch)
            yield features
