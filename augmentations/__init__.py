"""What pseudo anomalies look like: batched tensor functions, their hyperparameters and grids.

``base`` is what every augmentation is, ``hyperparameters`` what one may declare; ``registry`` finds augmentations by
name, class or reference. ``patches``, ``fields`` and ``partners`` are what several are made of; the other files hold
the registered ones.
"""

from augmentations.base import Augmentation
from augmentations.errors import InputError
from augmentations.registry import AUGMENTATIONS, get, grid, make, names, reference, suggest

__all__ = ["AUGMENTATIONS", "Augmentation", "InputError", "get", "grid", "make", "names", "reference", "suggest"]
