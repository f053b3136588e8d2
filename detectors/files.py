"""Tensors and settings as one safetensors file, written atomically, never pickled."""

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from augmentations import InputError
from detectors.checksums import of_tensor, parse_json, with_checksum, without_checksum

# How files of other formats begin, in which tensors are looked for by mistake. ONNX: a protobuf whose first field is
# the version of its format, a small number.
FORMATS = {
    re.compile(rb"PK"): "a zip archive, such as torch.save writes",
    re.compile(rb"\x80[\x00-\x05][^\x00]"): "a pickle",
    re.compile(rb"\x08[\x01-\x1f][^\x00]"): "an ONNX model",
}
HEADER = "settings"  # the entry of the metadata that holds settings and checksums
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
    checksums = {name: of_tensor(tensor) for name, tensor in sorted(whole.items())}
    header = with_checksum({"settings": {} if settings is None else settings, "tensors": checksums})
    # One entry, because the library does not keep the order of several.
    return write_bytes(path, save(whole, {HEADER: json.dumps(header)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and settings of a file; those of another program have no settings.

    Raises:
        InputError: The file is missing, unreadable or corrupt, or is not as ``write`` left it.
    """
    return _open(path, _tensors, is_own=False)


def read_own(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As ``read``, but refuses what another program wrote."""
    return _open(path, _tensors, is_own=True)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a file, without its tensors. Raises InputError as ``read_own`` does."""
    return _open(path, lambda file, checksums: {}, is_own=True)[1]


def _tensors(file: Any, checksums: Mapping[str, Any] | None) -> dict[str, Tensor]:
    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if checksums is not None and checksums != {name: of_tensor(t) for name, t in tensors.items()}:
        raise ValueError("the checksums of its tensors do not match")
    return tensors


def _open(path: Path, take: Callable[[Any, Any], dict[str, Tensor]], is_own: bool) -> tuple[dict[str, Tensor], Any]:
    if not path.is_file():
        raise InputError(str(path), "does not exist", "name the file or run that a finished selection wrote")
    try:
        stream = path.open("rb")  # for the system's own reason: safetensors has none
    except OSError as error:
        raise InputError(str(path), f"can't be read ({error.strerror})", "check its permissions") from error
    try:
        with stream, safe_open(_utf8(path, stream.fileno()), "pt") as file:
            metadata = file.metadata() or {}
            settings, checksums = _settings(metadata, is_own)
            taken = take(file, checksums)
    except (SafetensorError, ValueError, OSError) as error:
        found = other_format(path)
        raise _corrupt(path, f"it is {found}" if found else error) from error
    return taken, settings


def other_format(path: Path) -> str:
    """What a file is that could not be read as safetensors, by its first bytes; "" where they say nothing."""
    with path.open("rb") as file:
        start = file.read(3)
    return next((name for pattern, name in FORMATS.items() if pattern.match(start)), "")


def _utf8(path: Path, descriptor: int) -> str:
    """A path of an open file that is UTF-8, as safetensors needs it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return f"/dev/fd/{descriptor}"
    return str(path)


def _settings(metadata: Mapping[str, str], is_own: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What a header holds: the settings and the checksums. Raises ValueError for what is not as it was written."""
    if HEADER not in metadata and not is_own:
        return {}, None
    header = without_checksum(parse_json(metadata.get(HEADER, "null")))
    if not all(isinstance(header.get(part), dict) for part in ("settings", "tensors")):
        raise ValueError("its settings are not a JSON object")
    return header["settings"], header["tensors"]


def _corrupt(path: Path, why: object) -> InputError:
    return InputError(str(path), f"is corrupt ({why})", "delete it and make it again")
