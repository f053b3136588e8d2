"""Images as detectors take them: arrays or tensors, checked, in batches of bounded size."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from augmentations import InputError

Images = Tensor | np.ndarray
RANGE_TOLERANCE = 1e-6  # how far rounding may leave [0, 1]
BATCH_PIXELS = 2**20  # images per forward pass, times height, times width: bounds the memory of inference


def images_at_once(pixels: int) -> int:
    """How many images of this number of pixels a batch holds."""
    return max(1, BATCH_PIXELS // pixels)


def pieces(images: Tensor) -> tuple[Tensor, ...]:
    """(N,C,H,W) images in batches of bounded size."""
    return images.split(images_at_once(images.shape[2] * images.shape[3]))


def as_images(images: Images) -> Tensor:
    """Arrays or tensors as an (N,C,H,W) tensor, uint8 or float, where they are.

    Raises InputError for a wrong shape or type, for NaN, and for values outside [0,1] by more than rounding.
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
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
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
