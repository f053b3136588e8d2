"""What became of a candidate: what a worker gives and the run folder keeps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from augmentations import InputError
from detectors import Kind
from selector.zoo.candidates import Candidate

PSEUDO_SCORES = "pseudo_scores."  # and the family: how scores of validation anomalies are named in evidence

CALIBRATION = ("scores", "map_maxima", "maps")
STATUSES = ("ok", "failed")
RECORD = {"losses": list, "seconds": float, "families": list}  # types of what records may hold


@dataclass(frozen=True, eq=False)
class StoredEnsemble:
    """normalizations: by candidate, those of its scores and of its maps; calibration: as of a candidate."""

    normalizations: Mapping[str, Sequence[Sequence[float]]]
    calibration: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Result:
    """What became of a candidate: its record, and what belongs to it where it did not fail.

    weights: those of its training, where they are new.
    """

    candidate: Candidate
    record: dict[str, Any]
    weights: dict[str, Tensor] | None = None
    detector: Kind | None = None
    evidence: dict[str, Tensor] | None = None
    calibration: dict[str, Tensor] | None = None


def failure(reason: str, seconds: float = 0.0, trace: str = "", retry: bool = False) -> dict[str, object]:
    """The record of a candidate that failed.

    retry: whether the failure is the machine's (``is_machine_failure``) and no result: the candidate is tried again.
    """
    record = {"status": "failed", "reason": reason, "losses": [], "seconds": seconds, "traceback": trace}
    return {**record, "retry": retry}


def require_record(record: dict[str, Any], thing: str, remedy: str) -> dict[str, Any]:
    """The record as it is. Raises InputError where it is none: it was written by something else."""
    fits = record.get("status") in STATUSES and isinstance(record.get("reason"), str)
    if not fits or any(not isinstance(record.get(key, kind()), kind) for key, kind in RECORD.items()):
        raise InputError(thing, "is no record of a candidate", remedy)
    return record


def require_calibration(calibration: dict[str, Tensor], thing: str, remedy: str) -> dict[str, Tensor]:
    """The calibration as it is. Raises InputError where its tensors do not fit each other."""
    shapes = {name: tuple(calibration[name].shape) for name in CALIBRATION if name in calibration}
    scores = shapes.get("scores", ())
    if len(scores) != 1 or scores != shapes.get("map_maxima") or len(shapes.get("maps", ())) != 1:
        raise InputError(thing, f"is corrupt (tensors of other shapes: {shapes})", remedy)
    return calibration


def nan_to_none(value: Any) -> Any:
    """The same value with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: nan_to_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [nan_to_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
