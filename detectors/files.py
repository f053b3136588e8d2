"""Tensors and settings as one safetensors file, written atomically, never pickled."""

import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from augmentations import InputError

Taken = TypeVar("Taken")
DRAFT = re.compile(r"\..+?\.(\d+)(\.\d+)?\.tmp")  # the name of a draft, with the id of the process that writes it


@dataclass(frozen=True)
class State:
    """A detector taken apart: its settings, the tensors that training made, and those that fitting scorers made.

    Kept apart because one training serves many scorers; the names of the tensors do not collide.
    """

    settings: dict[str, Any]
    trained: dict[str, Tensor]
    fitted: dict[str, Tensor]


def write_bytes(path: Path, content: bytes, durable: bool = True) -> Path:
    """Write a file so that at every instant either the old or the new content is there, whole.

    Args:
        path: The file; missing folders are made.
        content: What it is to hold.
        durable: Whether this waits until the content is on disk, and so holds when the power fails, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def remove_drafts(folder: Path) -> None:
    """Remove what processes that were killed left of writing in a folder; the drafts of running ones stay."""
    for path in drafts(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def drafts(folder: Path) -> list[Path]:
    """The drafts in a folder whose writers are no more, or are this process before it writes there."""
    named = [(path, DRAFT.fullmatch(path.name)) for path in folder.glob(".*.tmp")]
    return [path for path, name in named if name and not _is_another(int(name[1]))]


def _is_another(process: int) -> bool:
    """Whether another process of this id is running on this machine."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is running, as another user
        pass
    return True


def write(path: Path, tensors: dict[str, Tensor], settings: dict[str, Any] | None = None) -> Path:
    """Write tensors, and settings as JSON in the header, atomically."""
    # Cloned, because two names may share memory, which safetensors refuses.
    whole = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    return write_bytes(path, save(whole, {"settings": json.dumps({} if settings is None else settings)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and settings of a file. Raises InputError when it is missing, unreadable or corrupt."""
    return _open(path, lambda file: {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a file, without its tensors. Raises InputError as ``read`` does."""
    return _open(path, lambda file: None)[1]


def _open(path: Path, take: Callable[[Any], Taken]) -> tuple[Taken, dict[str, Any]]:
    if not path.is_file():
        raise InputError(str(path), "does not exist", "name the file or run that a finished selection wrote")
    try:
        stream = path.open("rb")  # for the system's own reason: safetensors has none
    except OSError as error:
        raise InputError(str(path), f"can't be read ({error.strerror})", "check its permissions") from error
    try:
        with stream, safe_open(_utf8(path, stream.fileno()), "pt") as file:
            taken = take(file)
            settings = json.loads((file.metadata() or {}).get("settings", "{}"))
    except (SafetensorError, ValueError, OSError) as error:
        raise _corrupt(path, error) from error
    if not isinstance(settings, dict):
        raise _corrupt(path, "its settings are not a JSON object")
    return taken, settings


def _utf8(path: Path, descriptor: int) -> str:
    """A path of an open file that is UTF-8, as safetensors needs it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return f"/dev/fd/{descriptor}"
    return str(path)


def _corrupt(path: Path, why: object) -> InputError:
    return InputError(str(path), f"is corrupt ({why})", "delete it and make it again")
