"""Weights that the user has: read without running code, loaded strictly, and never downloaded."""

import hashlib
import mmap
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from augmentations.errors import InputError, first_few
from detectors.files import other_format, write_bytes

RANDOM = "random"  # as weights: those that layers begin with
SHORTEST_HASH = 8  # digits of a SHA-256 by which a file may be known
WRAPPERS = ("state_dict", "model")  # under which checkpoints keep the tensors
PICKLE, ZIP = b"\x80", b"P"  # how files that torch.save wrote begin
# Of what torch's reader allows, the one thing that takes as much memory as a number in the file says; no weights do.
BYTES_OF_ANY_SIZE = b"bytearray"
_are_skipped: ContextVar[bool] = ContextVar("_are_skipped", default=False)


@contextmanager
def without_weights() -> Iterator[None]:
    """Inside, encoders are built without reading their weights, for a saved detector brings its own."""
    token = _are_skipped.set(True)
    try:
        yield
    finally:
        _are_skipped.reset(token)


def are_skipped() -> bool:
    """Whether the code that runs is inside ``without_weights``."""
    return _are_skipped.get()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read again only when its size or time of change differs."""
    state = path.stat()
    return _sha256(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_in_name(path: Path) -> str:
    """The beginning of the SHA-256 that a file of torch's cache has in its name (name-<digits>.pth); "" if none."""
    found = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name)
    return found[1] if found else ""


def verify(path: Path, expected: str) -> str:
    """The SHA-256 of a file of weights. Raises InputError where it does not begin as ``expected``, which may be ""."""
    actual = _checked(path, sha256_of)
    if not actual.startswith(expected.lower()):
        raise InputError(
            str(path),
            f"has the SHA-256 {actual[:16]}..., not {expected[:16]}...",
            "it is another file, was changed, or was cut off: fetch it again, or give the sha256 that it has",
        )
    return actual


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights, by name: safetensors, or what torch.save wrote.

    Raises:
        InputError: for a file that is missing, truncated or otherwise unreadable, that holds pickled code, or that
            holds anything but tensors by name.
    """
    return _checked(path, _read)


def _checked(path: Path, use: Any) -> Any:
    if not path.is_file():
        raise InputError(str(path), "does not exist, or is no file", "give the path of a file of weights")
    try:
        return use(path)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged file makes its reader raise
        reason = " ".join(str(error).split())
        with path.open("rb") as file:
            is_pickle = file.read(1) in (PICKLE, ZIP)
        if type(error).__name__ == "UnpicklingError" and "Unsupported" in reason and is_pickle:
            name = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", reason)
            raise InputError(
                str(path),
                f"holds pickled code{f' ({name[1]})' if name else ''}, which is never run",
                "save the weights alone: model.state_dict(), best as safetensors",
            ) from error
        found = other_format(path)
        if found and not (is_pickle and path.suffix != ".safetensors"):
            remedy = "save the weights alone: model.state_dict(), best as safetensors"
            raise InputError(str(path), f"can't be read as weights (it is {found})", remedy) from error
        brief = (
            reason.partition(". ")[0][:120]
            if reason and (is_pickle or path.suffix == ".safetensors")
            else "it is not in their format"
        )
        raise InputError(
            str(path), f"can't be read as weights ({brief})", "it may be cut off: fetch it again"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    _refuse_bombs(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(str(path), "holds no tensors by name", "save model.state_dict()")
    return dict(content)


def _refuse_bombs(path: Path) -> None:
    """Refuse a file of torch.save that would take more memory than it has bytes. Raises InputError."""
    with path.open("rb") as file:
        if not (size := path.stat().st_size):
            return
        if file.read(1) == ZIP:
            with zipfile.ZipFile(file) as archive:
                parts = archive.infolist()
            is_stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
            if not is_stored or sum(part.file_size for part in parts) > size:
                rule = "is a compressed archive, which is not unpacked: torch.save writes none"
                raise InputError(str(path), rule, "save model.state_dict() again, best as safetensors")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(BYTES_OF_ANY_SIZE) >= 0:
                rule = f"holds pickled code ({BYTES_OF_ANY_SIZE.decode()}), which is never run"
                raise InputError(str(path), rule, "save the weights alone: model.state_dict(), best as safetensors")


def load(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, architecture: str) -> None:
    """Give a network its weights. Raises InputError unless names and shapes are exactly the network's."""
    own = network.state_dict()
    missing = [name for name in own if name not in tensors and not _is_count(name)]
    unexpected = [name for name in tensors if name not in own]
    shapes = [
        f"{name} {_shape(tensors[name])} instead of {_shape(tensor)}"
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    problems = [
        f"{what} {first_few(names)}"
        for what, names in (("without", missing), ("with unknown", unexpected), ("with", shapes))
        if names
    ]
    if problems:
        raise InputError(
            str(path), f"is of another architecture than {architecture}: {'; '.join(problems)}", "name the right one"
        )
    network.load_state_dict(own | dict(tensors))


def load_in_order(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, architecture: str) -> None:
    """The same for weights of a port that has other names for the same tensors in the same order."""
    own = [name for name in network.state_dict() if not _is_count(name)]
    others = [tensor for name, tensor in tensors.items() if not _is_count(name)]
    if len(own) != len(others):
        rule = f"is of another architecture than {architecture}: {len(others)} tensors instead of {len(own)}"
        raise InputError(str(path), rule, "install the package again")
    load(network, dict(zip(own, others, strict=True)), path, architecture)


def _is_count(name: str) -> bool:
    """Whether a tensor counts the batches that a normalisation has seen, which older files lack and nothing needs."""
    return name.endswith("num_batches_tracked")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "1"


def sha256_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of named tensors."""
    return hashlib.sha256(_as_file(tensors)).hexdigest()


def keep(tensors: Mapping[str, Tensor]) -> Path:
    """A file of these weights in the user's cache ($XDG_CACHE_HOME, or ~/.cache), known by its SHA-256."""
    content = _as_file(tensors)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "ssad" / "encoders" / f"{hashlib.sha256(content).hexdigest()}.safetensors"
    if not path.is_file():
        write_bytes(path, content)
    return path


def _as_file(tensors: Mapping[str, Tensor]) -> bytes:
    return save({name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)})
