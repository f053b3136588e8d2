"""Random views of images, as self-supervised tasks compare them: crops, flips, turns and colours of whole batches.

A view is one affine map of coordinates and one of colours for each image, drawn on the CPU and applied on the images'
device. Source: the views of Sohn et al., ICLR 2021, in their released code (which leaves blur out when it trains).
"""

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from augmentations.color import CHROMA, LUMA, QUARTER_HUE
from augmentations.randomness import noise
from detectors.training import Draws

# A quarter turn counter-clockwise, and a flip from left to right, of the coordinates (x, y) in [-1, 1].
QUARTER_TURN = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
FLIP = torch.tensor([[-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


class ViewStrength(Protocol):
    """What of a kind's settings decides its views."""

    @property
    def crop(self) -> float: ...
    @property
    def hflip(self) -> bool: ...
    @property
    def jitter(self) -> float: ...
    @property
    def gray(self) -> float: ...


def symmetries() -> Tensor:
    """(8,2,2) the maps of coordinates of: as it is, flipped, turned by 90, turned and then flipped, by 180, ..."""
    maps, turned = [], torch.eye(2, dtype=torch.float64)
    for _ in range(4):
        maps += [turned, turned @ FLIP]
        turned = turned @ QUARTER_TURN
    return torch.stack(maps)


def quarter_turns(images: Tensor, k: int) -> Tensor:
    """(N,C,H,W) images turned counter-clockwise by k times 90 degrees: without a loss, and as exports can trace it."""
    match k % 4:
        case 1:
            return images.flip(3).transpose(2, 3)
        case 2:
            return images.flip((2, 3))
        case 3:
            return images.transpose(2, 3).flip(3)
    return images


def sample_views(n: int, settings: ViewStrength, size: tuple[int, int], source: torch.Generator) -> Draws:
    """The random choices of ``n`` views.

    A crop has a side, in whole pixels, from ``crop`` to 1 of the image's, every one equally likely, and lies anywhere;
    half of the views are flipped from left to right where ``hflip``. With strength j of ``jitter``: brightness is
    shifted by U(-j, j), contrast and saturation scaled by U(1 - j, 1 + j), hue shifted by U(-j, j) turns. A share
    ``gray`` of the views is gray.

    Args:
        n: how many views.
        settings: their strengths.
        size: (height, width) of the images, in pixels.
        source: a CPU generator.
    Returns:
        ``place`` (n,2,3), maps of coordinates; ``colour`` (n,3,3), ``contrast`` (n,) and ``brightness`` (n,).
    """
    longest = max(size)
    least = max(1, round(settings.crop * longest))
    scale = (least + (noise(n, source) * (longest - least + 1)).floor()) / longest
    x, y = ((1 - scale) * (2 * noise(n, source) - 1) for _ in range(2))
    is_flipped = noise(n, source) < (0.5 if settings.hflip else 0.0)
    zero = torch.zeros_like(scale)
    rows = [scale.where(~is_flipped, -scale), zero, x, zero, scale, y]
    shifts = [settings.jitter * (2 * noise(n, source) - 1) for _ in range(4)]
    brightness, contrast, saturation, hue = shifts
    is_gray = noise(n, source) < settings.gray
    draws = {
        "place": torch.stack(rows, 1).view(n, 2, 3),
        "colour": _colour(1 + saturation, 2 * math.pi * hue, is_gray),
        "contrast": 1 + contrast,
        "brightness": brightness,
    }
    return {name: value.float() for name, value in draws.items()}


def _colour(saturation: Tensor, turn: Tensor, is_gray: Tensor) -> Tensor:
    """(n,3,3) what saturation and hue, or grayness, make of colours; all of them keep the luma."""
    chroma, quarter = torch.from_numpy(CHROMA.copy()), torch.from_numpy(QUARTER_HUE.copy())
    luma = torch.from_numpy(LUMA.copy()).expand(3, 3)
    vivid = saturation.masked_fill(is_gray, 0)
    return luma + _each(vivid * turn.cos()) * chroma + _each(vivid * turn.sin()) * quarter


def _each(values: Tensor) -> Tensor:
    return values[:, None, None]


def apply_views(images: Tensor, draws: Draws, settings: ViewStrength, turns: Tensor | None = None) -> Tensor:
    """The views: colours are not clipped, as in the source.

    Args:
        images: (N,C,H,W) in [0, 1].
        draws: what ``sample_views`` drew for N images, on their device.
        settings: what it was drawn with: what is off is left out.
        turns: (N,2,2) maps of coordinates, some of ``symmetries``, by which the images are turned before the view.
    Returns:
        (N,C,H,W), channels last.
    """
    if settings.crop < 1 or settings.hflip or turns is not None:
        place = draws["place"] if turns is None else turns @ draws["place"]
        grid = _places(place, (images.shape[2], images.shape[3]))
        images = nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if settings.jitter or settings.gray:
        images = _coloured(images, draws)
    return images.contiguous(memory_format=torch.channels_last)


def _places(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N,H,W,2) the coordinates (x, y) in [-1, 1] that maps (N,2,3) make of those of the pixels' centres.

    As ``affine_grid`` does, by a product of two long rows instead of one of two short columns: in a fifth of the time.
    """
    height, width = size
    y, x = ((2 * torch.arange(side, device=maps.device) + 1) / side - 1 for side in size)
    centres = torch.stack([x.repeat(height), y.repeat_interleave(width)]).expand(len(maps), -1, -1)
    places = torch.baddbmm(maps[:, :, 2:], maps[:, :, :2], centres)
    return places.view(-1, 2, height, width).permute(0, 2, 3, 1)


def _coloured(images: Tensor, draws: Draws) -> Tensor:
    """Contrast about the mean of each channel, then saturation and hue or gray, then brightness: one affine map."""
    n, channels, height, width = images.shape
    contrast, brightness = draws["contrast"], draws["brightness"]
    mean = images.mean((2, 3))
    if channels == 1:  # a gray image stays as it is but for contrast and brightness
        lift = (1 - contrast)[:, None] * mean + brightness[:, None]
        return torch.addcmul(lift[:, :, None, None], images, contrast[:, None, None, None])
    colour = draws["colour"]
    lift = (1 - contrast)[:, None] * (colour @ mean[:, :, None])[:, :, 0] + brightness[:, None]
    # Colours by whole planes: a product of three rows takes a fifth of the time of one of three columns.
    changed = torch.baddbmm(lift[:, :, None], colour * contrast[:, None, None], images.reshape(n, channels, -1))
    return changed.view(n, channels, height, width)
