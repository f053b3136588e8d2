"""Which kinds of detectors there are, by name, and how one from a file or from outside is found."""

from dataclasses import Field, fields, is_dataclass
from typing import Any

from augmentations.errors import InputError, unknown_name
from augmentations.references import checked, declared, reference_of, resolve
from detectors.kind import Kind

# One line per kind; a kind is imported when it is used, for some need libraries that others do without.
KINDS = {
    "classifier": "detectors.classifier:Classifier",
    "patch": "detectors.patch_classifier:PatchClassifier",
    "rotation": "detectors.rotation:Rotation",
    "contrastive": "detectors.contrastive:Contrastive",
    "contrastive_da": "detectors.contrastive:ContrastiveDA",
    "autoencoder": "detectors.autoencoder:Autoencoder",
    "plain_autoencoder": "detectors.autoencoder:PlainAutoencoder",
    "deep_svdd": "detectors.deep_svdd:DeepSVDD",
    "pixels": "detectors.pixels:Pixels",
    "frozen": "detectors.frozen:Frozen",
    "discriminator": "detectors.discriminator:Discriminator",
}


def names() -> list[str]:
    """The registered kinds of detectors."""
    return list(KINDS)


def get(detector: str | type[Kind]) -> type[Kind]:
    """The class of a registered name, of a reference "module:Class", or the class itself.

    Raises:
        InputError: for an unknown name, for a class that another process could not import, and for one that does
            not declare its name and settings.
    """
    if not isinstance(detector, str):
        reference = reference_of(checked(detector, Kind, "detector"))  # type: ignore[type-abstract]
    elif detector in KINDS:
        reference = KINDS[detector]
    elif ":" in detector:
        reference = detector
    else:
        raise unknown_name("detector", detector, names())
    kind = resolve(reference, Kind, "detector")  # type: ignore[type-abstract]
    declared(kind, "detector", name=str, Settings=type)
    if not any(field.name == "image_size" for field in _fields(kind)):
        rule = "must have Settings that are a frozen dataclass with the field image_size"
        raise InputError(f"detector {kind.__qualname__}", rule, "add `image_size: int` to them")
    return kind


def _fields(kind: type[Kind]) -> tuple[Field[Any], ...]:
    return fields(kind.Settings) if is_dataclass(kind.Settings) else ()
