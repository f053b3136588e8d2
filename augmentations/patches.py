"""Geometry of patches: sizes, places, what fits, which pixels a patch covers, and reading between pixels.

Lengths are in pixels, angles in degrees, counter-clockwise as displayed; the image spans [0, W] x [0, H], so
that pixel (row, column) has its centre at (column + 0.5, row + 0.5). A patch is its centre ``x``, ``y``, its
``width`` and ``height`` before it is rotated, and its ``angle``: five tensors of shape (N,).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from augmentations.base import Augmentation, Hyperparameters, Parameters, Trial, cell
from augmentations.errors import InputError
from augmentations.hyperparameters import Angle, Area, Aspect, Range, floats, text
from augmentations.randomness import log_uniform, noise, uniform

# Slack in a comparison of two lengths that float arithmetic may have moved.
ROUNDING = 1e-6


def turn(degrees: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine, exact at multiples of 90 degrees and smooth between."""
    quarters = (degrees / 90).round()
    rest = torch.deg2rad(degrees - 90 * quarters)
    quarter = quarters.remainder(4)
    cos, sin = (quarter - 2).abs() - 1, 1 - (quarter - 1).abs()
    return cos * rest.cos() - sin * rest.sin(), sin * rest.cos() + cos * rest.sin()


def draw(
    n: int,
    size: tuple[int, int],
    area: Range,
    aspect: Range,
    angle: Range,
    generator: torch.Generator,
    whole_pixels: bool,
) -> dict[str, Tensor]:
    """Patches, each drawn on its own, wholly inside the image: uniform over all such places.

    Args:
        n: how many.
        size: (height, width) of the images in pixels.
        area: range of the share of the image.
        aspect: range of width / height, drawn log-uniformly.
        angle: range in degrees.
        generator: a CPU generator.
        whole_pixels: for angle 0 only: round sides to at least one pixel and corners to pixel borders, so that a patch
            covers pixels wholly or not at all.
    Returns:
        ``x``, ``y``, ``width``, ``height`` and ``angle``, (n,) float64 each.
    """
    pixels = size[0] * size[1] * uniform(area, n, generator)
    ratio = log_uniform(aspect, n, generator)
    degrees = uniform(angle, n, generator)
    width, height = (pixels * ratio).sqrt(), (pixels / ratio).sqrt()
    if whole_pixels:
        width, height = width.round().clamp(min=1), height.round().clamp(min=1)
    cos, sin = (value.abs() for value in turn(degrees))
    x = place(width * cos + height * sin, size[1], generator, whole_pixels)
    y = place(width * sin + height * cos, size[0], generator, whole_pixels)
    return {"x": x, "y": y, "width": width, "height": height, "angle": degrees}


def place(extent: Tensor, side: int, generator: torch.Generator, whole_pixels: bool) -> Tensor:
    """Centres (n,) of intervals of length ``extent`` (n,), uniform inside [0, side]."""
    where = noise(len(extent), generator)
    if whole_pixels:
        return (where * (side - extent + 1)).floor() + extent / 2
    return where * (side - extent).clamp(min=0) + extent / 2


def largest_area(size: tuple[int, int], aspect: tuple[float, float], angle: tuple[float, float]) -> tuple[float, float]:
    """The largest area whose patch fits at every aspect and angle.

    The sides of the bounding box are convex in log aspect, so the ends decide; in the angle they peak where
    the box is as wide, or as high, as the patch's diagonal is long.

    Args:
        size: (height, width) of the image in pixels.
        aspect: the least and the largest width / height.
        angle: the least and the largest angle in degrees.
    Returns:
        The area as a share of the image, and the aspect at which a larger patch would not fit.
    """
    height, width = size
    limits = []
    for ratio in aspect:
        w, h = math.sqrt(ratio), 1 / math.sqrt(ratio)
        diagonal = math.degrees(math.atan2(h, w))
        peaks = [k * 180 + sign * peak for k in (-1, 0, 1) for sign in (-1, 1) for peak in (diagonal, 90 - diagonal)]
        for degrees in (*angle, *(peak for peak in peaks if angle[0] < peak < angle[1])):
            cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
            root = min(width / (w * cos + h * sin), height / (w * sin + h * cos))
            limits.append((root**2 / (width * height), ratio))
    return min(limits)


def check_fit(size: tuple[int, int], area: Range, aspect: Range, angles: Sequence[Range], prefix: str = "") -> None:
    """Check that every patch of the ranges fits in an image.

    Args:
        size: (height, width) of the image in pixels.
        area: range of the share of the image.
        aspect: range of width / height.
        angles: ranges in degrees, all of which must fit.
        prefix: what comes before the names of the ranges in messages.
    Raises:
        InputError: for an area that is too large, with the largest that fits.
    """
    (limit, worst), angle = min((largest_area(size, floats(aspect), floats(angle)), angle) for angle in angles)
    if floats(area)[1] <= limit * (1 + ROUNDING):
        return
    end = "up" if worst == floats(aspect)[1] else "down"
    thing = f"{prefix}area={text(area)} with {prefix}aspect {end} to {worst:g}"
    if floats(angle) != (0, 0):
        thing += f" and {prefix}angle={text(angle)}"
    rule = f"the patch must fit in the {size[0]}x{size[1]} image"
    raise InputError(thing, rule, f"lower {prefix}area to at most {_round_down(limit)}")


def frame(patch: Mapping[str, Tensor], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Every pixel centre in the frame of each patch: along its width and along its height, (N,H,W) each."""
    x, y = patch["x"], patch["y"]
    cos, sin = (value[:, None, None] for value in turn(patch["angle"]))
    dx = torch.arange(size[1], device=x.device, dtype=x.dtype) + 0.5 - x[:, None]
    dy = torch.arange(size[0], device=y.device, dtype=y.dtype) + 0.5 - y[:, None]
    dx, dy = dx[:, None, :], dy[:, :, None]
    return dx * cos - dy * sin, dx * sin + dy * cos


def coverage(patch: Mapping[str, Tensor], along: Tensor, across: Tensor) -> Tensor:
    """How much of each pixel of ``frame`` each patch covers, (N,1,H,W): 0 or 1 for whole-pixel patches.

    A box of the patch's sides blurred along its own axes, so the mass is width x height even where a side is
    shorter than a pixel.
    """
    # As wide as a pixel is when seen along a border: every lattice line that a border can run along then adds
    # up to the same mass, whereas a ramp of one pixel is off by up to 0.1 of a side at 45 degrees.
    cos, sin = turn(patch["angle"])
    ramp = cos.abs() + sin.abs()
    return (_profile(along, patch["width"], ramp) * _profile(across, patch["height"], ramp)).unsqueeze(1)


def weighted_mean(images: Tensor, weight: Tensor) -> Tensor:
    """Each image's mean per channel, (N,C,1,1), under ``weight`` (N,1,H,W); 0 where all weights are 0."""
    mass = weight.sum((2, 3), keepdim=True)
    total = torch.bmm(images.flatten(2), weight.flatten(2).mT).unsqueeze(3)
    return total / mass.clamp(min=torch.finfo(mass.dtype).tiny)


def bilinear(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Images read between pixels.

    Exact at pixel centres: grid_sample scales coordinates by the image's sides and back, which loses nothing
    when the sides are powers of two, so the image is padded to such sides. The padding is never read.

    Args:
        images: (N,C,H,W).
        x: (N,H',W') in [0.5, W - 0.5] pixels.
        y: (N,H',W') in [0.5, H - 0.5] pixels.
    Returns:
        (N,C,H',W').
    """
    height, width = (1 << (side - 1).bit_length() for side in images.shape[-2:])
    if (height, width) != images.shape[-2:]:
        images = F.pad(images, (0, width - images.shape[-1], 0, height - images.shape[-2]))
    grid = torch.stack((x * (2 / width), y * (2 / height)), dim=-1).sub_(1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class PatchAugmentation(Augmentation):
    """Changes one patch per image, whose area, aspect, angle and place are drawn for each image.

    ``area``: share of the image. ``aspect``: width / height, log-uniform, so that portrait and landscape are
    symmetric. ``angle``: degrees counter-clockwise, uniform. A patch lies wholly inside the image.
    At angle (0, 0) sides and corners are whole pixels; otherwise borders are antialiased.
    """

    is_local: ClassVar[bool] = True
    area: Area = (0.02, 0.15)
    aspect: Aspect = (0.3, 3.3)
    angle: Angle = (0.0, 0.0)

    @property
    def whole_pixels(self) -> bool:
        """Whether patches cover pixels wholly or not at all."""
        return floats(self.angle) == (0, 0)

    def check(self, size: tuple[int, int]) -> None:
        super().check(size)
        check_fit(size, self.area, self.aspect, (self.angle,))

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        areas = ((0.005, 0.02), (0.02, 0.05), (0.05, 0.15))
        aspects = ((1.0, 1.0), (0.3, 3.3))
        angles = ((0.0, 0.0), (-45.0, 45.0))
        return [cell(cls, area=a, aspect=r, angle=d) for a, r, d in product(areas, aspects, angles)]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        return cell(cls, **suggest_patch(cls.name, trial))

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        return draw(n, size, self.area, self.aspect, self.angle, generator, self.whole_pixels)


def suggest_patch(name: str, trial: Trial) -> dict[str, Range]:
    """Area, aspect and angle ranges; the largest patch, 0.25 at 3.5:1, has a diagonal of 0.97 sides."""
    low = trial.suggest_float(f"{name}.area_low", 0.002, 0.1, log=True)
    width = trial.suggest_float(f"{name}.area_width", 0.0, 0.15)
    spread = trial.suggest_float(f"{name}.aspect_spread", 1.0, 3.5, log=True)
    angle = trial.suggest_float(f"{name}.angle_spread", 0.0, 45.0)
    return {"area": (low, low + width), "aspect": (1 / spread, spread), "angle": (-angle, angle)}


def _profile(distance: Tensor, side: Tensor, ramp: Tensor) -> Tensor:
    side = (side / ramp)[:, None, None]
    distance = distance.abs() / ramp[:, None, None]
    return torch.minimum((side / 2 + 0.5 - distance).clamp(min=0), side.clamp(max=1))


def _round_down(limit: float) -> str:
    """Two significant digits, never more than ``limit``: a remedy must work when it is followed."""
    unit = 10.0 ** (math.floor(math.log10(limit)) - 1)
    return f"{math.floor(limit / unit + ROUNDING) * unit:.2g}"
