"""What became of a candidate: what a worker gives and the run folder keeps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from detectors import Kind
from selector.zoo.candidates import Candidate

PSEUDO_SCORES = "pseudo_scores."  # and the family: how scores of validation anomalies are named in evidence


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


def nan_to_none(value: Any) -> Any:
    """The same value with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: nan_to_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [nan_to_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
