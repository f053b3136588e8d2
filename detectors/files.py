"""Tensors and settings as one safetensors file, written atomically, never pickled."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from augmentations import InputError


@dataclass(frozen=True)
class State:
    """A detector taken apart: its settings, the tensors that training made, and those that the scorer made.

    Kept apart because one training serves many scorers; the names of the tensors do not collide.
    """

    settings: dict[str, Any]
    trained: dict[str, Tensor]
    scorer: dict[str, Tensor]


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file so that at every instant either the old or the new content is there, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def write(path: Path, tensors: dict[str, Tensor], settings: dict[str, Any] | None = None) -> Path:
    """Write tensors, and settings as JSON in the header, atomically."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return write_bytes(path, save(whole, {"settings": json.dumps(settings or {})}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and settings of a file. Raises InputError when it is missing or corrupt."""
    if not path.is_file():
        raise InputError(str(path), "is not there", "name the file or run that a finished selection wrote")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118: not a dict
            settings = json.loads((file.metadata() or {}).get("settings", "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise InputError(str(path), f"is corrupt ({error})", "delete it and make it again") from error
    return tensors, settings
