"""Images that are already in memory: what an array must hold, and its conversion to floats."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from augmentations.errors import InputError
from detectors.images import RANGE_TOLERANCE
from selector.inputs.decoding import SMALLEST_SIDE

CHUNK = 64  # images whose extremes are looked for at a time: bounds the memory that a comparison takes


def check_array(array: Any, role: str) -> tuple[str, ...]:
    """Refuse what is not images in [0, 1] or uint8.

    Args:
        array: A NumPy array or a tensor, (N, C, H, W) or (N, H, W).
        role: What the images are for, "train" or "test": begins every message.

    Returns:
        Notes on what is probably not meant, to show to the user.

    Raises:
        InputError: Wrong shape, type or range of values.
    """
    shape = tuple(array.shape)
    thing = f"{role}: array of shape {shape}"
    move = "transpose(0, 3, 1, 2)" if isinstance(array, np.ndarray) else "permute(0, 3, 1, 2)"
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        rule = "looks like one image with its channels last, where (N, H, W) are gray images"
        raise InputError(thing, rule, f"move channels to axis 1: array[None].{move}")
    if len(shape) not in (3, 4):
        rule = "must have 4 axes (N, C, H, W), or 3 (N, H, W)"
        raise InputError(thing, rule, "for a single image, add the first axis: array[None]")
    if len(shape) == 4 and shape[1] not in (1, 3):
        last = shape[-1] in (1, 3)
        remedy = f"move channels to axis 1: array.{move}" if last else "give gray or red, green, blue"
        raise InputError(thing, "must have 1 or 3 channels on axis 1", remedy)
    if shape[0] == 0:
        raise InputError(thing, "holds no images", "give at least one")
    if min(shape[-2:]) < SMALLEST_SIDE:
        raise InputError(thing, f"images are smaller than {SMALLEST_SIDE} pixels on a side", "give larger ones")
    kind = array.dtype.name if isinstance(array, np.ndarray) else str(array.dtype).removeprefix("torch.")
    if "float" not in kind and kind != "uint8":
        rule = f"has type {kind}, where only float in [0, 1] and uint8 are understood"
        raise InputError(thing, rule, "convert it: array.astype(float) / its largest possible value")
    low, high = _extremes(array)
    if not np.isfinite([low, high]).all():
        raise InputError(thing, "holds NaN or infinity", "remove or replace those values")
    if kind == "uint8":
        return ()
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        rule = f"float values must be in [0, 1], these go from {low:g} to {high:g}"
        raise InputError(thing, rule, "scale them: for values from 0 to 255, divide by 255")
    if high <= 1 / 255:
        return (f"float values reach only {high:g}: images nearly black, perhaps divided by 255 twice",)
    return ()


def to_floats(array: Any) -> Tensor:
    """Images (N, C, H, W) or (N, H, W), checked, as (N, C, H, W) float32 in [0, 1] on the CPU, contiguous."""
    if isinstance(array, np.ndarray):
        # A copy: torch takes neither foreign byte order, negative strides nor read-only memory.
        array = torch.from_numpy(np.array(array, dtype=np.uint8 if array.dtype == np.uint8 else np.float32))
    pixels = array.to("cpu")
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.to(torch.float32)
    return (pixels if pixels.ndim == 4 else pixels.unsqueeze(1)).contiguous().clamp(0, 1)


def _extremes(array: Any) -> tuple[float, float]:
    chunks = [array[start : start + CHUNK] for start in range(0, len(array), CHUNK)]
    return (
        float(np.min([float(chunk.min()) for chunk in chunks])),
        float(np.max([float(chunk.max()) for chunk in chunks])),
    )
