"""Encoders that stay as they were built, one for all detectors that have an equal one."""

from collections.abc import Sequence

from torch import nn

from detectors.base import Detector
from detectors.kind import Kind
from detectors.shared_features import encoder_digest


def share_encoders(detectors: Sequence[Detector]) -> None:
    """Let detectors whose encoders are equal, to the bit, on one device, have the same one.

    Only those that stay as they were built: detectors change nothing about them.
    """
    first: dict[tuple[str, str], nn.Module] = {}
    for detector in detectors:
        if (encoder := frozen_encoder(detector)) is not None:
            assert isinstance(detector, Kind)
            detector.encoder = first.setdefault((encoder_digest(encoder), str(detector.device)), encoder)


def encoder_owners(detectors: Sequence[Detector]) -> list[int]:
    """For each detector the place of the first that has the very same encoder; its own where none has."""
    places: dict[int, int] = {}
    return [
        i if (encoder := frozen_encoder(detector)) is None else places.setdefault(id(encoder), i)
        for i, detector in enumerate(detectors)
    ]


def frozen_encoder(detector: Detector) -> nn.Module | None:
    """The encoder of a detector that stays as it was built; None before it is, and of others."""
    if not isinstance(detector, Kind) or detector.learns_encoder:
        return None
    return getattr(detector, "encoder", None)
