"""What learns from augmentations: detectors, their encoders, scorers and training."""

from pathlib import Path

import torch

from augmentations import InputError
from augmentations.errors import unknown_name
from detectors import files
from detectors.base import Detector
from detectors.classifier import Classifier
from detectors.devices import resolve
from detectors.ensemble import Ensemble
from detectors.patch_classifier import PatchClassifier, dense_embeddings, dense_map
from detectors.scorers import SCORERS, scorer
from detectors.settings import PRESETS, Settings, patch_settings, preset

DETECTORS: dict[str, type[Classifier]] = {"classifier": Classifier, "patch": PatchClassifier}

__all__ = [
    "DETECTORS",
    "PRESETS",
    "SCORERS",
    "Classifier",
    "Detector",
    "Ensemble",
    "PatchClassifier",
    "Settings",
    "dense_embeddings",
    "dense_map",
    "get",
    "load",
    "names",
    "patch_settings",
    "preset",
    "resolve",
    "scorer",
]


def names() -> list[str]:
    """The registered detectors."""
    return list(DETECTORS)


def get(name: str) -> type[Classifier]:
    """The detector class of that name. Raises InputError for an unknown one."""
    if name not in DETECTORS:
        raise unknown_name("detector", name, names())
    return DETECTORS[name]


def load(path: str | Path, device: str | torch.device = "auto") -> Detector:
    """The detector that ``Detector.save`` wrote. Raises InputError when the file is missing or corrupt."""
    tensors, settings = files.read(Path(path))
    if "detector" not in settings:
        raise InputError(str(path), "holds no detector", "name a file that Detector.save wrote")
    state = files.State(settings, tensors, tensors)
    kind = Ensemble if settings["detector"] == Ensemble.name else get(settings["detector"])
    return kind.from_state(state, resolve(device))
