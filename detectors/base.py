"""What every detector does."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from augmentations import InputError
from detectors import files

Images = Tensor | np.ndarray
BATCH_PIXELS = 2**20  # images a forward pass, times height, times width: bounds the memory of inference


class Detector(ABC):
    """Fitted to normal images, it gives any image an anomaly score and a score map, higher = more anomalous.

    Images are (N,C,H,W) or (N,H,W) arrays or tensors, float in [0,1] or uint8; what comes out are detached
    tensors on the CPU.
    """

    name: str
    score_is_distance: bool
    channels: int
    device: torch.device

    @abstractmethod
    def fit(self, images: Images, *, on_progress: Callable[[int, float], None] | None = None) -> Self:
        """Learn from normal images; ``on_progress`` is told the step and its loss now and then."""

    @abstractmethod
    def embed(self, images: Images) -> Tensor:
        """(N,d) L2-normalised embeddings."""

    @abstractmethod
    def score(self, images: Images) -> Tensor:
        """(N,) anomaly scores."""

    def score_embeddings(self, embeddings: Tensor) -> Tensor | None:
        """(N,) anomaly scores of embeddings (N,d), or None where a score is more than a function of the embedding."""
        return None

    @abstractmethod
    def score_map(self, images: Images) -> Tensor:
        """(N,H,W) anomaly scores by pixel, of the size of the images."""

    def score_and_map(self, images: Images) -> tuple[Tensor, Tensor]:
        """``score`` and ``score_map`` together: in one pass where the detector knows how."""
        return self.score(images), self.score_map(images)

    @abstractmethod
    def pseudo_anomalies(self, images: Images, generator: torch.Generator) -> Tensor:
        """(N,C,H,W) what the detector was trained against, made from these images."""

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
        return files.write(Path(path), state.trained | state.scorer, state.settings)

    def batches(self, images: Images) -> Iterator[Tensor]:
        """The images, checked, in pieces of bounded size on the detector's device."""
        whole = as_images(images)
        if whole.shape[1] != self.channels:
            raise InputError(
                f"images with {whole.shape[1]} channels",
                f"this detector was trained on {self.channels}",
                "convert them, or train on images like these",
            )
        for piece in pieces(whole):
            yield as_float(piece).to(self.device)


def pieces(images: Tensor) -> tuple[Tensor, ...]:
    """(N,C,H,W) images in batches of bounded size."""
    return images.split(max(1, BATCH_PIXELS // (images.shape[2] * images.shape[3])))


def as_images(images: Images) -> Tensor:
    """Arrays or tensors as an (N,C,H,W) tensor, uint8 or float, where they are.

    Raises InputError for a wrong shape or type, for NaN, and for values outside [0,1].
    """
    try:
        tensor = images.detach() if isinstance(images, Tensor) else torch.from_numpy(_plain(images))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"images of {type(images).__name__}", f"can't be read as an array ({error})", "give an array or a tensor"
        ) from error
    if tensor.ndim == 3:
        tensor = tensor[:, None]
    if tensor.ndim != 4 or tensor.shape[1] not in (1, 3) or 0 in tensor.shape:
        raise InputError(
            f"images of shape {tuple(tensor.shape)}",
            "must be (N,H,W) or (N,C,H,W) with 1 or 3 channels",
            "stack the images, channels on axis 1",
        )
    if tensor.dtype == torch.uint8:
        return tensor
    if not tensor.is_floating_point():
        raise InputError(f"images of {tensor.dtype}", "must be float in [0, 1] or uint8", "convert them")
    low, high = tensor.aminmax()
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"images from {low.item():.4g} to {high.item():.4g}", "must be finite and in [0, 1]", "rescale them"
        )
    return tensor


def _plain(images: Any) -> np.ndarray:
    """An array that torch can share: writable, its steps not negative."""
    array = np.asarray(images)
    return array if array.flags.writeable and min(array.strides, default=0) >= 0 else array.copy()


def as_float(images: Tensor) -> Tensor:
    """uint8 as float32 in [0,1]; floats as float32."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
