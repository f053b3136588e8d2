"""What learns from augmentations: kinds of detectors, their encoders, scorers and training."""

from pathlib import Path

import torch

from augmentations import InputError
from detectors import files
from detectors.base import Detector
from detectors.classifier import Classifier, ClassifierSettings
from detectors.devices import resolve_device
from detectors.encoders import ENCODERS
from detectors.ensemble import Ensemble
from detectors.kind import Kind
from detectors.patch_classifier import PatchClassifier, PatchSettings
from detectors.presets import PRESETS, Preset, get_preset
from detectors.registry import KINDS, get, names
from detectors.scorers import SCORERS, Scorer, ScorerSpec
from detectors.scorers import get as scorer
from detectors.scorers import names as scorer_names
from detectors.scoring import ScoringModule, TwoStageModule

__all__ = [
    "ENCODERS",
    "KINDS",
    "PRESETS",
    "SCORERS",
    "Classifier",
    "ClassifierSettings",
    "Detector",
    "Ensemble",
    "Kind",
    "PatchClassifier",
    "PatchSettings",
    "Preset",
    "Scorer",
    "ScorerSpec",
    "ScoringModule",
    "TwoStageModule",
    "get",
    "get_preset",
    "load",
    "names",
    "resolve_device",
    "scorer",
    "scorer_names",
]


def load(path: str | Path, device: str | torch.device = "auto") -> Detector:
    """The detector that ``Detector.save`` wrote. Raises InputError when the file is missing or corrupt."""
    remedy = "name a file that Detector.save wrote"
    try:
        tensors, settings = files.read(Path(path))
    except InputError as error:
        raise InputError(error.thing, error.rule, remedy) from error
    if not isinstance(settings.get("detector"), str):
        raise InputError(str(path), "holds no detector", remedy)
    state = files.State(settings, tensors, tensors)
    kind = Ensemble if settings["detector"] == Ensemble.name else get(settings["detector"])
    return kind.from_state(state, resolve_device(device))
