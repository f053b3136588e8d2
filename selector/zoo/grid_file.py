"""A file of grids, JSON or TOML: the augmentations, detectors and scorers of a selection, with their settings."""

import tomllib
from pathlib import Path
from typing import Any

from augmentations import InputError
from detectors.checksums import parse_json

PARTS = ("augmentations", "detectors", "scorers")
EXAMPLE = '{"augmentations": {"cutpaste": [{"area": [0.02, 0.15]}]}}'


def read_grid_file(path: Path) -> dict[str, Any]:
    """The arguments of ``select_best`` that a file of grids gives.

    Args:
        path: a .json or .toml file with one or more of the tables augmentations, detectors and scorers; each maps
            names to lists of settings, or is a list of names.
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
        if not isinstance(part, (dict, list)):
            raise InputError(f"{path}: {name}", "must map names to lists of settings, or list names", f"try {EXAMPLE}")
    return values


def _parse_toml(content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
