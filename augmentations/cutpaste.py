"""CutPaste: a patch of the image, jittered and rotated, is pasted elsewhere; its scar, union and 3-way forms.

Source: Li, Sohn, Yoon, Pfister: CutPaste, CVPR 2021, section 2 and appendix A.2.
"""

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from augmentations import patches
from augmentations.base import Augmentation, Hyperparameters, Parameters, Trial, cell
from augmentations.color import draw_jitter, jitter
from augmentations.hyperparameters import Angle, Area, Aspect, Jitter, Range
from augmentations.patches import PatchAugmentation, suggest_patch
from augmentations.randomness import noise


@dataclass(frozen=True)
class CutPaste(PatchAugmentation):
    """Pastes a copy of another place of the same image, colours jittered, rotated about its centre.

    Fields as in PatchAugmentation, and ``jitter``: strength of the colour jitter (see ``color``). Source and
    target places are independent; the source is upright.
    """

    name: ClassVar[str] = "cutpaste"
    family: ClassVar[str] = "cutpaste"
    jitter: Jitter = (0.0, 0.1)

    def check(self, size: tuple[int, int]) -> None:
        self.check_source_and_target(size)

    def check_source_and_target(self, size: tuple[int, int], prefix: str = "") -> None:
        """``check``, with ``prefix`` before the names in messages."""
        Augmentation.check(self, size)
        patches.check_fit(size, self.area, self.aspect, ((0.0, 0.0), self.angle), prefix)

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        return cell(cls, **suggest_patch(cls.name, trial), **_suggest_jitter(cls.name, trial))

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        target = super()._draw(n, size, generator)
        # Of a side below a pixel only the middle is read, which must not be beyond the outer pixel centres.
        wide, high = target["width"].clamp(min=1), target["height"].clamp(min=1)
        source_x = patches.place(wide, size[1], generator, self.whole_pixels)
        source_y = patches.place(high, size[0], generator, self.whole_pixels)
        colours = draw_jitter(n, self.jitter, generator)
        return {**target, "source_x": source_x, "source_y": source_y, **colours}

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        along, across = patches.frame(parameters, images.shape[-2:])
        alpha = patches.coverage(parameters, along, across)
        # Kept half a pixel inside the source patch, so that interpolation never reads beyond its border.
        x = _within(along, parameters["width"]) + parameters["source_x"][:, None, None]
        y = _within(across, parameters["height"]) + parameters["source_y"][:, None, None]
        patch = jitter(patches.bilinear(images, x, y), parameters, alpha)
        return torch.lerp(images, patch, alpha)


def _within(distance: Tensor, side: Tensor) -> Tensor:
    reach = ((side - 1) / 2).clamp(min=0)[:, None, None]
    return torch.minimum(torch.maximum(distance, -reach), reach)


def _suggest_jitter(name: str, trial: Trial) -> dict[str, Range]:
    return {"jitter": (0.0, trial.suggest_float(f"{name}.jitter_high", 0.0, 0.3))}


def _suggest_scar(prefix: str, trial: Trial) -> dict[str, Range]:
    """Area, aspect and angle of scars; the longest, 0.024 at 18:1, has a diagonal of 0.66 sides."""
    low = trial.suggest_float(f"{prefix}area_low", 0.001, 0.014, log=True)
    width = trial.suggest_float(f"{prefix}area_width", 0.0, 0.01)
    aspect = trial.suggest_float(f"{prefix}aspect_low", 1.5, 6.0, log=True)
    factor = trial.suggest_float(f"{prefix}aspect_factor", 1.0, 3.0, log=True)
    angle = trial.suggest_float(f"{prefix}angle_spread", 0.0, 90.0)
    return {"area": (low, low + width), "aspect": (aspect, aspect * factor), "angle": (-angle, angle)}


@dataclass(frozen=True)
class CutPasteScar(CutPaste):
    """CutPaste of a long thin patch at an angle.

    The paper's scar is in absolute pixels of a 256 px image, 2-16 wide and 10-25 long; areas here are shares
    of the image, so that a scar scales with it, and aspects are always elongated.
    """

    name: ClassVar[str] = "cutpaste_scar"
    area: Area = (0.002, 0.014)
    aspect: Aspect = (2.0, 12.0)
    angle: Angle = (-45.0, 45.0)

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        areas = ((0.002, 0.006), (0.006, 0.014))
        aspects = ((2.0, 6.0), (6.0, 12.0))
        angles = ((0.0, 0.0), (-45.0, 45.0))
        return [cell(cls, area=a, aspect=r, angle=d) for a, r, d in product(areas, aspects, angles)]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        return cell(cls, **_suggest_scar(f"{cls.name}.", trial), **_suggest_jitter(cls.name, trial))


@dataclass(frozen=True)
class CutPasteUnion(Augmentation):
    """Each image receives a CutPaste patch or a scar, one or the other with equal chance.

    Fields as in CutPaste, with ``scar_`` before those of scars; ``jitter`` is shared.
    """

    name: ClassVar[str] = "cutpaste_union"
    family: ClassVar[str] = "cutpaste"
    is_local: ClassVar[bool] = True
    area: Area = (0.02, 0.15)
    aspect: Aspect = (0.3, 3.3)
    angle: Angle = (0.0, 0.0)
    jitter: Jitter = (0.0, 0.1)
    scar_area: Area = (0.002, 0.014)
    scar_aspect: Aspect = (2.0, 12.0)
    scar_angle: Angle = (-45.0, 45.0)

    @property
    def patch(self) -> CutPaste:
        """The CutPaste half."""
        return CutPaste(self.area, self.aspect, self.angle, self.jitter)

    @property
    def scar(self) -> CutPasteScar:
        """The scar half."""
        return CutPasteScar(self.scar_area, self.scar_aspect, self.scar_angle, self.jitter)

    def check(self, size: tuple[int, int]) -> None:
        self.patch.check_source_and_target(size)
        self.scar.check_source_and_target(size, prefix="scar_")

    @classmethod
    def grid(cls) -> list[Hyperparameters]:
        areas = ((0.005, 0.02), (0.02, 0.05), (0.05, 0.15))
        scar_areas = ((0.002, 0.006), (0.006, 0.014))
        angles = ((0.0, 0.0), (-45.0, 45.0))
        return [cell(cls, area=a, scar_area=s, angle=d) for a, s, d in product(areas, scar_areas, angles)]

    @classmethod
    def suggest(cls, trial: Trial) -> Hyperparameters:
        scar = {f"scar_{key}": value for key, value in _suggest_scar(f"{cls.name}.scar_", trial).items()}
        return cell(cls, **suggest_patch(cls.name, trial), **_suggest_jitter(cls.name, trial), **scar)

    def _draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Parameters:
        is_scar = noise(n, generator) < 0.5
        patch, scar = (kind._draw(n, size, generator) for kind in (self.patch, self.scar))
        mixed = {
            key: torch.where(is_scar.view(-1, *[1] * (patch[key].dim() - 1)), scar[key], patch[key]) for key in patch
        }
        return {**mixed, "is_scar": is_scar}

    def _transform(self, images: Tensor, parameters: Parameters) -> Tensor:
        return self.patch._transform(images, parameters)


@dataclass(frozen=True)
class CutPaste3Way(CutPasteUnion):
    """CutPaste and scars as two classes, distinguished from each other and from normal images.

    Called as a whole it is the union; ``parts`` holds the two classes.
    """

    name: ClassVar[str] = "cutpaste_3way"

    @property
    def parts(self) -> tuple[Augmentation, ...]:
        return (self.patch, self.scar)
