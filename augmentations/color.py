"""Colour jitter as one affine map of colours per image, for whole images and for pasted patches."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from augmentations.base import Parameters, cast, prepare
from augmentations.hyperparameters import Jitter, Range, normalise
from augmentations.patches import weighted_mean
from augmentations.randomness import noise, uniform

# Rows are Y, I, Q of the NTSC (1953) colour space; Y is the luma of ITU-R BT.601.
YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
LUMA = YIQ[0]
# Removes the luma, keeps the chroma.
CHROMA = np.eye(3) - np.ones((3, 1)) * LUMA
# Removes the luma and turns the chroma by a quarter: a hue shift of t turns is cos(2 pi t) of the chroma plus
# sin(2 pi t) of this.
QUARTER_HUE = np.linalg.inv(YIQ) @ np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ YIQ


def sample_jitter(n: int, strength: Range, generator: torch.Generator) -> Parameters:
    """Colour maps for ``n`` images.

    Each image draws its strength s and b, c, t, h from U(-1, 1): brightness 1 + s b, contrast 1 + s c, saturation
    1 + s t, hue shift s h turns. Source: CutPaste (Li et al., 2021), appendix A.2.

    Args:
        n: how many images.
        strength: the range (0 to 0.5) of s.
        generator: a CPU generator.
    Returns:
        ``colour`` (n,3,3), to be added to the identity, and ``lift`` (n,).
    Raises:
        InputError: for a strength out of range.
    """
    strength = normalise("jitter", strength, Jitter, (0.0, 0.1))
    return cast(draw_jitter(n, strength, generator), torch.float32)


def apply_jitter(images: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Images with jittered colours.

    Args:
        images: (N,C,H,W) in [0, 1].
        parameters: what ``sample_jitter`` drew for N images.
    Returns:
        (N,C,H,W) in [0, 1], on the device of the images and of their dtype.
    Raises:
        InputError: for images that are not so shaped, or parameters drawn for another N.
    """
    working, parameters = prepare(images, parameters)
    with torch.autocast(images.device.type, enabled=False):
        return jitter(working, parameters, torch.ones_like(working[:, :1])).to(images.dtype)


def draw_jitter(n: int, strength: Range, generator: torch.Generator) -> Parameters:
    """``sample_jitter`` in float64, for a range already checked."""
    s = uniform(strength, n, generator)
    brightness, contrast, saturation, hue = (s * (2 * noise(n, generator) - 1) for _ in range(4))
    # All four keep greys grey, and saturation and hue keep the luma; with no clamping in between they
    # therefore commute, and the random order of the paper makes no difference.
    gain = (1 + brightness) * (1 + contrast)
    vivid, turned = 1 + saturation, 2 * math.pi * hue
    identity, chroma, quarter = (torch.from_numpy(m.copy()) for m in (np.eye(3), CHROMA, QUARTER_HUE))
    colour = _each(gain - 1) * identity + _each(gain) * (
        _each(vivid * turned.cos() - 1) * chroma + _each(vivid * turned.sin()) * quarter
    )
    return {"colour": colour, "lift": -(1 + brightness) * contrast}


def jitter(images: Tensor, parameters: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """Jittered ``images``, clamped once, with contrast about each mean luma under ``weight`` (N,1,H,W)."""
    colour, lift = parameters["colour"], parameters["lift"]
    mean = weighted_mean(images, weight)
    if images.shape[1] == 1:
        # A grey image is a colour image with equal channels, of which one is kept.
        colour = colour.sum(2)[:, :1, None]
    else:
        red, green, blue = map(float, LUMA)
        mean = red * mean[:, 0:1] + green * mean[:, 1:2] + blue * mean[:, 2:3]
    flat = images.flatten(2)
    # Added to the image rather than multiplied with it: no jitter is then no change, to the last bit.
    changed = torch.baddbmm(flat, colour, flat).view_as(images)
    # In place: on a CPU, fresh memory for a batch costs more than the arithmetic.
    return changed.add_(mean * lift[:, None, None, None]).clamp_(0, 1)


def _each(values: Tensor) -> Tensor:
    return values[:, None, None]
