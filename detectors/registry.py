"""Which kinds of detectors there are, by name, and how one from a file or from outside is found."""

from augmentations.errors import unknown_name
from augmentations.references import reference_of, resolve
from detectors.kind import Kind

# One line per kind; a kind is imported when it is used, for some need libraries that others do without.
KINDS = {
    "classifier": "detectors.classifier:Classifier",
    "patch": "detectors.patch_classifier:PatchClassifier",
    "pixels": "detectors.pixels:Pixels",
}


def names() -> list[str]:
    """The registered kinds of detectors."""
    return list(KINDS)


def get(detector: str | type[Kind]) -> type[Kind]:
    """The class of a registered name, of a reference "module:Class", or the class itself.

    Raises:
        InputError: for an unknown name, and for a class that another process could not import.
    """
    if not isinstance(detector, str):
        reference = reference_of(detector)
    elif detector in KINDS:
        reference = KINDS[detector]
    elif ":" in detector:
        reference = detector
    else:
        raise unknown_name("detector", detector, names())
    return resolve(reference, Kind, "detector")  # type: ignore[type-abstract]
