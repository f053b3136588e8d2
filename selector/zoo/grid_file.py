"""A file of grids, JSON or TOML: the augmentations, detectors, scorers and the encoder of a selection."""

import tomllib
from pathlib import Path
from typing import Any

from augmentations import InputError
from detectors.checksums import parse_json

PARTS = ("augmentations", "detectors", "scorers", "encoder")
EXAMPLE = '{"augmentations": {"cutpaste": [{"area": [0.02, 0.15]}]}}'
ENCODER_EXAMPLE = '{"name": "torchvision/resnet18", "weights": "resnet18.pth", "layers": ["layer2", "layer3"]}'


def read_grid_file(path: Path) -> dict[str, Any]:
    """The arguments of ``select_best`` that a file of grids gives.

    Args:
        path: a .json or .toml file with one or more of the tables augmentations, detectors and scorers, each of which
            maps names to lists of settings, or is a list of names; and of encoder, a name or a table of its arguments.
    Raises:
        InputError: for a file that can't be read, or holds something else.
    """
    try:
        content = path.read_bytes()
        values = _parse_toml(content) if path.suffix.lower() == ".toml" else parse_json(content)
    except OSError as error:
        raise InputError(str(path), f"can't be read ({error.strerror})", "name a .json or .toml file") from error
    except ValueError as error:  # of either format, or of UTF-8
        raise InputError(str(path), f"is neither JSON nor TOML ({error})", f"try {EXAMPLE}") from error
    if not isinstance(values, dict) or not values or set(values) - set(PARTS):
        raise InputError(str(path), f"must hold tables named {', '.join(PARTS)}, and nothing else", f"try {EXAMPLE}")
    for name, part in values.items():
        if name == "encoder":
            if not isinstance(part, (dict, str)):
                rule = "must be a name, or a table of an encoder's arguments"
                raise InputError(f"{path}: {name}", rule, f"try {ENCODER_EXAMPLE}")
        elif not isinstance(part, (dict, list)):
            raise InputError(f"{path}: {name}", "must map names to lists of settings, or list names", f"try {EXAMPLE}")
    return values


def parse_encoder(text: str) -> Any:
    """An encoder as an option of a command gives it: a name, or its arguments as a JSON object.

    Raises InputError for what is meant as JSON and is none.
    """
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        values = parse_json(text)
    except ValueError as error:
        raise InputError(f"encoder {text!r}", f"is no JSON ({error})", f"try '{ENCODER_EXAMPLE}'") from error
    if not isinstance(values, dict):
        raise InputError(f"encoder {text!r}", "must be a name or a JSON object", f"try '{ENCODER_EXAMPLE}'")
    return values


def _parse_toml(content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
