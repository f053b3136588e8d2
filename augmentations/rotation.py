"""Rotation of the whole image, a global pseudo anomaly."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from augmentations import patches
from augmentations.base import Augmentation, Hyperparameters, Parameters, Trial, cell
from augmentations.errors import InputError
from augmentations.hyperparameters import Step, Turn, floats, text, to_float
from augmentations.randomness import noise, uniform


@dataclass(frozen=True)
class Rotation(Augmentation):
    """Turns the whole image about its centre, reflecting it at its borders where the view leaves it.

    ``angle``: degrees counter-clockwise. ``step``: one number; angles are its multiples in the range, equally
    likely, full turns left out; 0 draws continuously. Quarter turns of square images move pixels exactly.
    Raises InputError when the range holds no angle but full turns, which change nothing.
    Source: RotNet (Gidaris et al., 2018) for quarter turns; SSL-AD for their use as pseudo anomalies.
    """

    name: ClassVar[str] = "rotation"
    family: ClassVar[str] = "rotation"
    is_local: ClassVar[bool] = False
    angle: Turn = (90.0, 270.0)
    step: Step = 90.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step == 0:
            start, end = floats(self.angle)
            if start == end and start % 360 == 0:
                raise InputError(f"angle={text(self.angle)}", "holds only the identity", "try (90, 270)")
        elif not self.angles():
            thing = f"angle={text(self.angle)} with step={text(self.step)}"
            rule = "holds no multiple of the step but full turns"
            raise InputError(thing, rule, "try angle=(90, 270) with step=90, or step=0")

    def angles(self) -> list[float]:
        """The angles that can be drawn, ascending; empty when they are continuous."""
        (low, high), step = floats(self.angle), to_float(self.step)
        if step == 0:
            return []
        first, last = math.ceil(low / step - patches.ROUNDING), math.floor(high / step + patches.ROUNDING)
        return [k * step for k in range(first, last + 1) if (k * step) % 360 != 0]

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        stepped = [(90.0, 270.0, 90.0), (90.0, 90.0, 90.0), (180.0, 180.0, 90.0), (45.0, 315.0, 45.0)]
        continuous = [(5.0, 45.0, 0.0), (45.0, 315.0, 0.0)]
        return [cell(cls, angle=(low, high), step=s) for low, high, s in stepped + continuous]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        low = trial.suggest_float(f"{cls.name}.angle_low", 5.0, 180.0)
        width = trial.suggest_float(f"{cls.name}.angle_width", 0.0, 175.0)
        return cell(cls, angle=(low, low + width), step=0.0)

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        angles = self.angles()
        if not angles:
            return {"angle": uniform(self.angle, n, generator)}
        choice = (noise(n, generator) * len(angles)).long()
        return {"angle": torch.tensor(angles, dtype=torch.float64)[choice]}

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        height, width = images.shape[-2:]
        angle = parameters["angle"]
        centre = {"x": torch.full_like(angle, width / 2), "y": torch.full_like(angle, height / 2)}
        along, across = patches.frame({**centre, "angle": angle}, (height, width))
        x, y = _reflect(along + width / 2, width), _reflect(across + height / 2, height)
        return patches.bilinear(images, x, y)


def _reflect(position: Tensor, side: int) -> Tensor:
    """``position`` mirrored at 0 and ``side`` until it lies between pixel centres."""
    folded = position.remainder(2 * side)
    return torch.minimum(folded, 2 * side - folded).clamp(0.5, side - 0.5)
