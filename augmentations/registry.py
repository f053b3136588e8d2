"""Augmentations by name, by class and by reference."""

from dataclasses import fields
from typing import Any

from augmentations.base import Augmentation, Hyperparameters, Trial, check_declarations
from augmentations.blur import Blur, BlurPatch
from augmentations.crop import Crop
from augmentations.cutdiff import CutDiff
from augmentations.cutout import CutAvg, CutOut
from augmentations.cutpaste import CutPaste, CutPaste3Way, CutPasteScar, CutPasteUnion
from augmentations.errors import unknown_name
from augmentations.feature_noise import FeatureNoise, MaskedFeatureNoise
from augmentations.flip import Flip
from augmentations.nsa import NSA
from augmentations.perlin import Perlin
from augmentations.pixelwise import Mask, Noise
from augmentations.references import checked, reference_of, resolve
from augmentations.rotation import Rotation
from augmentations.tones import Colour, Invert
from augmentations.warp import Warp

WHAT = "augmentation"
REGISTERED: tuple[type[Augmentation], ...] = (
    CutOut,
    CutAvg,
    CutDiff,
    CutPaste,
    CutPasteScar,
    CutPasteUnion,
    CutPaste3Way,
    Rotation,
    NSA,
    Perlin,
    Warp,
    BlurPatch,
    Blur,
    Flip,
    Crop,
    Invert,
    Colour,
    Noise,
    Mask,
    FeatureNoise,
    MaskedFeatureNoise,
)
AUGMENTATIONS: dict[str, type[Augmentation]] = {cls.name: cls for cls in REGISTERED}


def names(space: str | None = None) -> list[str]:
    """The registered names: of all, or of those that change "images", or "features"."""
    return [name for name, cls in AUGMENTATIONS.items() if space in (None, cls.space)]


def get(augmentation: str | type[Augmentation]) -> type[Augmentation]:
    """The class of an augmentation.

    Args:
        augmentation: a registered name, a reference "module:QualName", or a subclass of Augmentation that stands in a
            module.
    Returns:
        A class that declares all it must, and that other processes can import.
    Raises:
        InputError: for an unknown name, a reference to what is missing, a class that is not an augmentation, does not
            declare its name, family and whether it is local, or is defined in the script that runs or in a function.
    """
    if isinstance(augmentation, str) and ":" in augmentation:
        cls = resolve(augmentation, Augmentation, WHAT)  # type: ignore[type-abstract]
    elif isinstance(augmentation, str):
        if augmentation not in AUGMENTATIONS:
            raise unknown_name(WHAT, augmentation, names())
        return AUGMENTATIONS[augmentation]
    else:
        cls = checked(augmentation, Augmentation, WHAT)  # type: ignore[type-abstract]
    check_declarations(cls)
    reference_of(cls)
    return cls


def reference(augmentation: str | type[Augmentation]) -> str:
    """What ``get`` finds an augmentation by, in this process and others.

    Args:
        augmentation: as in ``get``.
    Returns:
        The name of a registered class, "module:QualName" of another.
    Raises:
        InputError: as ``get`` does.
    """
    cls = get(augmentation)
    return cls.name if cls in REGISTERED else reference_of(cls)


def make(augmentation: str | type[Augmentation], /, **hyperparameters: Any) -> Augmentation:
    """An augmentation with these hyperparameters in place of its defaults.

    Args:
        augmentation: a registered name, a reference "module:QualName", or a subclass of Augmentation.
        hyperparameters: a range as (low, high) or as one number; a number, a whole number or a choice as it is.
    Returns:
        The augmentation, which turns normal images (N,C,H,W) in [0, 1] into pseudo anomalies of the same shape.
    Raises:
        InputError: as ``get`` does; for an unknown hyperparameter; and for a value that is out of bounds.

    Example:
        >>> import torch
        >>> import augmentations
        >>> from augmentations.randomness import generator
        >>> cutpaste = augmentations.make("cutpaste", area=(0.02, 0.15), aspect=(0.3, 3.3))
        >>> images = torch.rand(8, 3, 64, 64)
        >>> cutpaste(images, generator(0)).shape
        torch.Size([8, 3, 64, 64])
    """
    cls = get(augmentation)
    known = [field.name for field in fields(cls)]
    for key in hyperparameters:
        if key not in known:
            raise unknown_name(f"hyperparameter of {cls.name}", key, known)
    return cls(**hyperparameters)


def grid(augmentation: str | type[Augmentation]) -> list[Hyperparameters]:
    """Hyperparameters worth comparing: 4 to 16 dicts for ``make``, feasible on square images.

    Raises InputError as ``get`` does.
    """
    return get(augmentation).grid()


def suggest(augmentation: str | type[Augmentation], trial: Trial) -> Hyperparameters:
    """Hyperparameters drawn by an Optuna ``trial``, always feasible on square images.

    Raises InputError as ``get`` does.
    """
    return get(augmentation).suggest(trial)
