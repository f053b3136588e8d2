"""NSA: a patch of another normal image, resized, is blended in.

Source: Schlüter et al.: Natural Synthetic Anomalies, ECCV 2022; Pérez et al., 2003, for seamless blending.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from augmentations import patches
from augmentations.base import Hyperparameters, Parameters, Trial, cell
from augmentations.errors import InputError
from augmentations.hyperparameters import Area, Aspect, Bounds, Choice, Range, floats, text
from augmentations.partners import draw_partner, partners
from augmentations.patches import PatchAugmentation
from augmentations.randomness import log_uniform

SEAMLESS, SOFT = "seamless", "soft"
SIDES = 16  # intervals along a patch's side at which the correction of a seamless patch is computed
BORDER = 0.3  # share of a half side over which a soft patch fades out

Scale = Annotated[Range, Bounds("must be in [0.25, 4]", lambda x: 0.25 <= x <= 4)]


@dataclass(frozen=True)
class NSA(PatchAugmentation):
    """Blends a patch of another image of the batch into the image; an image that is alone gives its own.

    Fields as in PatchAugmentation for the place where the patch goes, and

    blend: "seamless": the patch keeps its gradients and meets the image at its border (Poisson's equation without
        sources, solved on a grid in the patch's own frame); "soft": it fades out toward its border.
    scale: how much larger the patch is than where it comes from, log-uniform: above 1 it is enlarged.
    """

    name: ClassVar[str] = "nsa"
    family: ClassVar[str] = "nsa"
    uses_batch: ClassVar[bool] = True
    area: Area = (0.03, 0.12)
    aspect: Aspect = (0.5, 2.0)
    blend: Annotated[str, Choice(SEAMLESS, SOFT)] = SEAMLESS
    scale: Scale = (0.7, 1.3)

    def check(self, size: tuple[int, int]) -> None:
        super().check(size)
        least = floats(self.scale)[0]
        source = floats(self.area)[1] / least**2
        limit, _ = patches.largest_area(size, floats(self.aspect), (0.0, 0.0))
        if source > limit * (1 + patches.ROUNDING):
            rule = f"the place that a patch comes from must fit in the {size[0]}x{size[1]} image"
            thing = f"scale={text(self.scale)} with area up to {floats(self.area)[1]:g}"
            raise InputError(thing, rule, "raise the lower end of scale, or lower the upper end of area")

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        areas, scales = ((0.01, 0.04), (0.04, 0.15)), ((1.0, 1.0), (0.7, 1.3))
        cells = product(areas, (SEAMLESS, SOFT), scales)
        return [cell(cls, area=area, blend=blend, scale=scale) for area, blend, scale in cells]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        low = trial.suggest_float(f"{cls.name}.area_low", 0.01, 0.06, log=True)
        width = trial.suggest_float(f"{cls.name}.area_width", 0.0, 0.1)
        aspect = trial.suggest_float(f"{cls.name}.aspect_spread", 1.0, 2.0, log=True)
        angle = trial.suggest_float(f"{cls.name}.angle_spread", 0.0, 45.0)
        scale = trial.suggest_float(f"{cls.name}.scale_spread", 1.0, 1.6)
        return cell(
            cls,
            area=(low, low + width),
            aspect=(1 / aspect, aspect),
            angle=(-angle, angle),
            blend=trial.suggest_categorical(f"{cls.name}.blend", (SEAMLESS, SOFT)),
            scale=(1 / scale, scale),
        )

    @property
    def whole_pixels(self) -> bool:
        return False

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        target = super()._draw(n, size, generator)
        scale = log_uniform(self.scale, n, generator)
        wide, high = ((target[side] / scale).clamp(min=1) for side in ("width", "height"))
        return {
            **target,
            "scale": scale,
            "source_x": patches.place(wide, size[1], generator, False),
            "source_y": patches.place(high, size[0], generator, False),
            **draw_partner(n, generator),
        }

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        size = images.shape[-2:]
        others = partners(images, parameters["partner"])
        along, across = patches.frame(parameters, size)
        u, v = (2 * d / parameters[s][:, None, None] for d, s in ((along, "width"), (across, "height")))
        inside = torch.maximum(u.abs(), v.abs()) <= 1
        u, v = u.clamp(-1, 1), v.clamp(-1, 1)
        patch = _read(others, u, v, parameters, is_source=True)
        if self.blend == SOFT:
            fade = [((1 - side.abs()) / BORDER).clamp(0, 1) for side in (u, v)]
            alpha = fade[0] * fade[1] * inside
        else:
            patch = (patch + _correction(images, others, u, v, parameters)).clamp_(0, 1)
            alpha = inside.to(images.dtype)
        return torch.lerp(images, patch, alpha.unsqueeze(1))


def _read(images: Tensor, u: Tensor, v: Tensor, parameters: Parameters, *, is_source: bool) -> Tensor:
    """Images at the places (u, v) in [-1, 1] of the patch: where it comes from, upright, or where it goes."""
    reach_x, reach_y = (parameters[side][:, None, None] / 2 * place for side, place in (("width", u), ("height", v)))
    if is_source:
        scale = parameters["scale"][:, None, None]
        x, y = parameters["source_x"][:, None, None] + reach_x / scale, reach_y / scale
        y = y + parameters["source_y"][:, None, None]
    else:
        cos, sin = (value[:, None, None] for value in patches.turn(parameters["angle"]))
        x = parameters["x"][:, None, None] + reach_x * cos + reach_y * sin
        y = parameters["y"][:, None, None] + reach_y * cos - reach_x * sin
    height, width = images.shape[-2:]
    return patches.bilinear(images, x.clamp(0.5, width - 0.5), y.clamp(0.5, height - 0.5))


def _correction(images: Tensor, others: Tensor, u: Tensor, v: Tensor, parameters: Parameters) -> Tensor:
    """(N,C,H,W) what must be added to the patch: at its border the difference to the image, harmonic inside."""
    n, channels = images.shape[:2]
    border = torch.as_tensor(_border(), dtype=images.dtype).to(images.device, non_blocking=True)
    at_u, at_v = (place.expand(n, 1, -1) for place in border)
    goes, comes = (
        _read(batch, at_u, at_v, parameters, is_source=flag) for batch, flag in ((images, False), (others, True))
    )
    harmonic = torch.as_tensor(_harmonic(), dtype=images.dtype).to(images.device, non_blocking=True)
    grid = ((goes - comes).flatten(2) @ harmonic.mT).view(n, channels, SIDES + 1, SIDES + 1)
    return torch.nn.functional.grid_sample(grid, torch.stack((u, v), dim=-1), padding_mode="border", align_corners=True)


@cache
def _places() -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the points on the border of the grid, and of all its points."""
    rows, columns = np.divmod(np.arange((SIDES + 1) ** 2), SIDES + 1)
    on_border = (rows % SIDES == 0) | (columns % SIDES == 0)
    return np.stack([rows, columns]), on_border


@cache
def _border() -> np.ndarray:
    """(2,B) the points on the border as (u, v) in [-1, 1]."""
    places, on_border = _places()
    return 2 * places[::-1, on_border] / SIDES - 1


@cache
def _harmonic() -> np.ndarray:
    """((SIDES + 1)^2, B): from values on the border to the solution of Laplace's equation on the grid."""
    places, on_border = _places()
    distance = np.abs(places[:, :, None] - places[:, None, :]).sum(0)
    laplace = np.where(distance == 0, 4.0, np.where(distance == 1, -1.0, 0.0))[~on_border]
    solution = np.zeros((len(on_border), int(on_border.sum())))
    solution[on_border] = np.eye(int(on_border.sum()))
    solution[~on_border] = np.linalg.solve(laplace[:, ~on_border], -laplace[:, on_border])
    return solution
