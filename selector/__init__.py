"""What chooses a detector without labels, and what the chosen one then does."""

from augmentations import InputError
from selector import consensus, criteria
from selector.detection.detections import Detections
from selector.evidence.evidence import Evidence
from selector.export.export import ExportError
from selector.selection import NothingToSelectError, Selection, load, select_best
from selector.zoo.candidates import Candidate
from selector.zoo.store import StorageError

__all__ = [
    "Candidate",
    "Detections",
    "Evidence",
    "ExportError",
    "InputError",
    "NothingToSelectError",
    "Selection",
    "StorageError",
    "consensus",
    "criteria",
    "load",
    "select_best",
]
