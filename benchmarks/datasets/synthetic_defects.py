"""Generators of defects on normal images, with exact masks.

They share nothing with `augmentations`, neither code nor shapes: a benchmark drawn by the augmentations that compete
in it would be rigged. What they draw follows defects of solar cells seen in electroluminescence: inactive spots,
cracks and scratches, foreign material, uneven brightness.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from augmentations import InputError

SMALLEST_SIDE = 32  # px; below, a scratch is hardly more than a pixel
VISIBLE = 0.02  # a pixel is changed where a channel moved by more: 5 of 255 gray levels
MEAN_CHANGE = 0.05  # at least, over the mask, so that every defect can be seen
SMALLEST_SHARE = 0.003  # of the image that a mask covers: 12 px at 64 x 64
SPECK_SHARE = 0.001  # a smaller changed island, below 4 px at 64 x 64, is not a defect of its own and is undone
TRIES = 100  # places tried before an image is left as it is
DRAWN_AT = 64  # px, the side that widths of scratches are stated for
EIGHT_NEIGHBOURS = np.ones((3, 3))

Generate = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
# One image (C,H,W), its donor (C,H,W) and a source of randomness in, the changed image out.
_Draw = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def dark_spot(images: Tensor, donors: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Darkens an irregular spot with soft edges, 10-26% of a side across, by 30-70% at its heart.

    images (N,C,H,W) in [0,1], donors unused; returns the defective images and masks (N,H,W) uint8, 1 where a channel
    moved by more than VISIBLE. An image on which no spot shows comes back as it was, its mask empty. Raises InputError
    for images of another kind.
    """
    return _generate(_dark_spot, images, donors, generator)


def scratch(images: Tensor, donors: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws a thin curve, darker or brighter by 20-50%, 1-2 px wide at 64 px per side and 25-70% of a side long.

    Shapes, masks and raises as in ``dark_spot``.
    """
    return _generate(_scratch, images, donors, generator)


def swapped_patch(images: Tensor, donors: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Replaces an irregular region, feathered, with what the donor (N,C,H,W) shows up to an eighth of a side away, its
    mean brightness drawn 30-80% towards the region's.

    Shapes, masks and raises as in ``dark_spot``; no patch shows where image and donor look too alike.
    """
    return _generate(_swapped_patch, images, donors, generator)


def brightness_stain(images: Tensor, donors: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Scales the brightness of a large smooth blob, 40-90% of a side across, by up to 15-30% at its heart.

    Shapes, masks and raises as in ``dark_spot``.
    """
    return _generate(_brightness_stain, images, donors, generator)


GENERATORS: dict[str, Generate] = {
    "dark_spot": dark_spot,
    "scratch": scratch,
    "swapped_patch": swapped_patch,
    "brightness_stain": brightness_stain,
}


def _generate(draw: _Draw, images: Tensor, donors: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    _check(images, donors)
    # One seed per image: the number of tries for one image does not change another's defect.
    seeds = torch.randint(2**62, (len(images),), generator=generator).tolist()
    defective, masks = images.clone(), torch.zeros(len(images), *images.shape[2:], dtype=torch.uint8)
    for i, seed in enumerate(seeds):
        source = torch.Generator().manual_seed(seed)
        for _ in range(TRIES):
            changed, mask = _settle(images[i], draw(images[i], donors[i], source))
            if _shows(images[i], changed, mask):
                defective[i], masks[i] = changed, mask
                break
    return defective, masks


def _check(images: Tensor, donors: Tensor) -> None:
    if images.dim() != 4 or not images.is_floating_point():
        actual = f"{tuple(images.shape)} {images.dtype}"
        raise InputError("images", f"must be float (N,C,H,W), not {actual}", "divide uint8 by 255")
    if min(images.shape[2:]) < SMALLEST_SIDE:
        raise InputError(f"images of {tuple(images.shape[2:])}", f"must be {SMALLEST_SIDE} px or more", "try 64")
    if donors.shape != images.shape:
        rule = f"must have the shape of the images, {tuple(images.shape)}, not {tuple(donors.shape)}"
        raise InputError("donors", rule, "give one donor per image")
    for name, values in (("images", images), ("donors", donors)):
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise InputError(name, "must lie in [0, 1]", "scale them, and remove what is not finite")


def _settle(image: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
    """The changed image in [0,1], specks undone, and its mask (H,W) uint8."""
    changed = changed.clamp(0, 1)
    mask = ((changed - image).abs().amax(0) > VISIBLE).numpy()
    islands, _ = ndimage.label(mask, EIGHT_NEIGHBOURS)
    areas = np.bincount(islands.ravel())
    specks = torch.from_numpy(mask & (areas < SPECK_SHARE * mask.size)[islands])
    return torch.where(specks, image, changed), (torch.from_numpy(mask) & ~specks).to(torch.uint8)


def _shows(image: Tensor, changed: Tensor, mask: Tensor) -> bool:
    if mask.float().mean() < SMALLEST_SHARE:
        return False
    return bool((changed - image).abs().amax(0)[mask == 1].mean() >= MEAN_CHANGE)


def _dark_spot(image: Tensor, _: Tensor, source: torch.Generator) -> Tensor:
    alpha = _blob(image.shape[1:], (0.05, 0.13), 0.5, 0.8, source)
    return image * (1 - _uniform(0.3, 0.7, source) * alpha)


def _brightness_stain(image: Tensor, _: Tensor, source: torch.Generator) -> Tensor:
    alpha = _blob(image.shape[1:], (0.2, 0.45), 0.25, 1.0, source)
    alpha = alpha.square() * (3 - 2 * alpha)  # a smooth heart and a smooth edge
    sign = 1 if _uniform(0, 1, source) < 0.5 else -1
    return image * (1 + sign * _uniform(0.15, 0.3, source) * alpha)


def _swapped_patch(image: Tensor, donor: Tensor, source: torch.Generator) -> Tensor:
    height, width = image.shape[1:]
    alpha = _blob((height, width), (0.08, 0.2), 0.4, 0.4, source)
    rows, columns = alpha.any(1).nonzero()[:, 0], alpha.any(0).nonzero()[:, 0]
    if not len(rows):
        return image
    y = slice(int(rows[0]), int(rows[-1]) + 1)
    x = slice(int(columns[0]), int(columns[-1]) + 1)
    patch = donor[:, _moved(y, height, source), _moved(x, width, source)]
    # Cells differ in brightness as a whole: left as it is, that would give most patches away.
    gap = (patch - image[:, y, x]).mean((1, 2), keepdim=True)
    patch = patch - _uniform(0.3, 0.8, source) * gap
    changed = image.clone()
    changed[:, y, x] = torch.lerp(image[:, y, x], patch, alpha[y, x])
    return changed


def _moved(region: slice, side: int, source: torch.Generator) -> slice:
    """The region up to an eighth of the side away, within the image."""
    low, high = max(-region.start, -side // 8), min(side - region.stop, side // 8)
    shift = int(torch.randint(low, high + 1, (), generator=source))
    return slice(region.start + shift, region.stop + shift)


def _scratch(image: Tensor, _: Tensor, source: torch.Generator) -> Tensor:
    """A cubic Bezier curve from a random place in a random direction, its control points off the chord."""
    height, width = image.shape[1:]
    side = min(height, width)
    middle = torch.tensor([_uniform(0.15, 0.85, source) * height, _uniform(0.15, 0.85, source) * width])
    angle, length = _uniform(0, math.pi, source), _uniform(0.25, 0.7, source) * side
    along = torch.tensor([math.sin(angle), math.cos(angle)]) * length
    across = along.flip(0) * torch.tensor([1.0, -1.0])
    bends = [_uniform(-0.35, 0.35, source) for _ in range(2)]
    corners = torch.stack([-along / 2, -along / 6 + bends[0] * across, along / 6 + bends[1] * across, along / 2])
    # Half a pixel apart at 64 px per side, and as much of the line's width apart at others.
    t = torch.linspace(0, 1, 2 * round(length / side * DRAWN_AT) + 1)[:, None]
    bernstein = torch.cat([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)
    curve = middle + bernstein @ corners
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    distance, nearest = torch.cdist(torch.cartesian_prod(rows, columns), curve).min(1)
    half_width = _uniform(0.5, 1.0, source) * side / DRAWN_AT
    # Pixels are covered by the share that the line overlaps; its pressure varies and fades at both ends.
    pressure = _smooth_noise((1, len(t)), 5, source)[0].mul(0.5).add(1).clamp(0.5, 1)
    pressure = pressure * (4 * torch.minimum(t, 1 - t)[:, 0]).clamp(0.4, 1)
    alpha = (half_width + 0.5 - distance).clamp(0, 1) * pressure[nearest]
    goal = 0.0 if _uniform(0, 1, source) < 0.5 else 1.0
    return torch.lerp(image, torch.tensor(goal), _uniform(0.25, 0.5, source) * alpha.view(height, width))


def _blob(
    size: tuple[int, int] | torch.Size,
    radii: tuple[float, float],
    roughness: float,
    softness: float,
    source: torch.Generator,
) -> Tensor:
    """Coverage (H,W) in [0,1] of an irregular blob: smooth noise on a cone, cut at 0.

    radii: range of the half axes, as shares of the smaller side; softness: share of the radius over which the edge
    rises to 1.
    """
    height, width = size
    axes = [_uniform(*radii, source) * min(height, width) for _ in range(2)]
    centre = [_uniform(0.12, 0.88, source) * side for side in (height, width)]
    angle = _uniform(0, math.pi, source)
    y = (torch.arange(height) + 0.5 - centre[0])[:, None]
    x = (torch.arange(width) + 0.5 - centre[1])[None, :]
    u = (math.cos(angle) * x + math.sin(angle) * y) / axes[1]
    v = (math.cos(angle) * y - math.sin(angle) * x) / axes[0]
    # Waves of the outline are as long as the blob's radius, whatever its size.
    knots = round(2 * min(height, width) / sum(axes)) + 4
    cone = 1 - (u.square() + v.square()).sqrt() + roughness * _smooth_noise((height, width), knots, source)
    near = u.square() + v.square() < 4  # no islands far from the blob
    return (cone / softness).clamp(0, 1) * near


def _smooth_noise(size: tuple[int, int], knots: int, source: torch.Generator) -> Tensor:
    """Noise (H,W) in [-1.5,1.5], drawn at knots x knots places and interpolated."""
    drawn = torch.randn(1, 1, min(knots, size[0]), knots, generator=source)
    return functional.interpolate(drawn, size, mode="bicubic", align_corners=True)[0, 0].clamp(-1.5, 1.5)


def _uniform(low: float, high: float, source: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=source))
