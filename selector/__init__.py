"""What chooses a detector without labels, and what the chosen one then does."""

from augmentations import InputError
from selector import consensus, criteria
from selector.detection.detections import Detections
from selector.evidence.evidence import Evidence
from selector.export.formats import ExportError
from selector.select import NothingToSelectError, select_best
from selector.selection import Selection, load
from selector.zoo.candidates import Candidate
from selector.zoo.disk import StorageError

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
