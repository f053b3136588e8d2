"""Which kinds of detectors there are, by name, and how one from a file or from outside is found."""

from augmentations.errors import unknown_name
from augmentations.references import reference_of, resolve
from detectors.classifier import Classifier
from detectors.kind import Kind
from detectors.patch_classifier import PatchClassifier

DETECTORS: dict[str, type[Kind]] = {kind.name: kind for kind in (Classifier, PatchClassifier)}


def names() -> list[str]:
    """The registered kinds of detectors."""
    return list(DETECTORS)


def get(detector: str | type[Kind]) -> type[Kind]:
    """The class of a registered name, of a reference "module:Class", or the class itself.

    Raises:
        InputError: for an unknown name, and for a class that another process could not import.
    """
    if isinstance(detector, str) and detector in DETECTORS:
        return DETECTORS[detector]
    if isinstance(detector, str) and ":" not in detector:
        raise unknown_name("detector", detector, names())
    return resolve(detector if isinstance(detector, str) else reference_of(detector), Kind, "detector")  # type: ignore[type-abstract]
