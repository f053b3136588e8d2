"""What chooses a detector without labels, and what the chosen one then does."""

from augmentations import InputError
from selector import consensus, criteria
from selector.candidates import Candidate
from selector.detections import Detections
from selector.evidence import Evidence
from selector.export import ExportError
from selector.selection import NothingToSelectError, Selection, load, select_best
from selector.store import StorageError

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
