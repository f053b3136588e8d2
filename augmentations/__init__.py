"""What pseudo anomalies look like: batched tensor functions, their hyperparameter ranges and grids."""

from typing import Any

from augmentations.base import Augmentation, Hyperparameters, Trial
from augmentations.cutdiff import CutDiff
from augmentations.cutout import CutAvg, CutOut
from augmentations.cutpaste import CutPaste, CutPaste3Way, CutPasteScar, CutPasteUnion
from augmentations.errors import InputError, unknown_name
from augmentations.rotation import Rotation

__all__ = ["AUGMENTATIONS", "Augmentation", "InputError", "grid", "make", "names", "suggest"]

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "cutout": CutOut,
    "cutavg": CutAvg,
    "cutdiff": CutDiff,
    "cutpaste": CutPaste,
    "cutpaste_scar": CutPasteScar,
    "cutpaste_union": CutPasteUnion,
    "cutpaste_3way": CutPaste3Way,
    "rotation": Rotation,
}


def names() -> list[str]:
    """The registered names."""
    return list(AUGMENTATIONS)


def make(name: str, **hyperparameters: Any) -> Augmentation:
    """The augmentation ``name`` with ranges (low, high), or numbers, in place of its defaults.

    Raises InputError for an unknown name or hyperparameter, and for a range out of bounds.
    """
    augmentation = _named(name)
    known = list(augmentation.__dataclass_fields__)
    for key in hyperparameters:
        if key not in known:
            raise unknown_name(f"hyperparameter of {name}", key, known)
    return augmentation(**hyperparameters)


def grid(name: str) -> list[Hyperparameters]:
    """Hyperparameters of ``name`` worth comparing: 4 to 16 dicts for ``make``, feasible on square images.

    Raises InputError for an unknown name.
    """
    return _named(name).grid()


def suggest(name: str, trial: Trial) -> Hyperparameters:
    """Hyperparameters of ``name`` drawn by an Optuna ``trial``, always feasible on square images.

    Raises InputError for an unknown name.
    """
    return _named(name).suggest(trial)


def _named(name: str) -> type[Augmentation]:
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, names())
    return AUGMENTATIONS[name]
