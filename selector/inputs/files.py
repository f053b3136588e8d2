"""Which files a user means: folders searched, lists checked, and names that any file can hold."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from augmentations.errors import InputError, first_few

# What a folder is searched for; files named in a list may have any suffix, their content decides.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"),
    *(".pbm", ".pgm", ".ppm", ".pnm"),
)
UNSAFE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories of control characters and separators of lines
DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # a name would read as another
# What a folder holds that `ssad detect` or `ssad select` writes: its pictures are no images of the user's.
RESULTS = ({"result.json", "detections.jsonl"}, {"run.json", "images.safetensors"})
LEFT_BY_ARCHIVERS = "__MACOSX"
NAMED_FAILURES, NAMED_OTHERS = 10, 5


@dataclass(frozen=True)
class FileList:
    """Files to read.

    Attributes:
        paths: Where they are.
        names: What they are called in results.
        notes: Remarks on what was left out, to show to the user.
        unlisted: Name of and reason for each folder that could not be listed.
    """

    paths: Sequence[Path]
    names: Sequence[str]
    notes: tuple[str, ...] = ()
    unlisted: tuple[tuple[str, str], ...] = ()

    def only(self, wanted: Callable[[str], bool]) -> "FileList":
        """The files whose name is ``wanted``."""
        pairs = [(path, name) for path, name in zip(self.paths, self.names, strict=True) if wanted(name)]
        return replace(self, paths=[path for path, _ in pairs], names=[name for _, name in pairs])


def list_folder(root: Path, role: str) -> FileList:
    """All image files of a folder and its sub-folders, sorted by relative path, which is their name.

    Args:
        root: The folder. Hidden files and folders below it are left out.
        role: What the images are for, "train" or "test": begins every message.

    Raises:
        InputError: The folder holds no images.
    """
    images: list[tuple[str, Path]] = []
    others: list[str] = []
    unlisted: list[tuple[str, str]] = []
    repeated: list[str] = []
    results: list[str] = []
    visited: set[str] = set()

    def relative(path: str | Path) -> str:
        return Path(path).relative_to(root).as_posix()

    def on_error(error: OSError) -> None:
        unlisted.append((printable(relative(error.filename)), error.strerror or str(error)))

    for folder, below, files in os.walk(root, onerror=on_error, followlinks=True):
        real = os.path.realpath(folder)
        # Links may lead back up, or twice to one folder: an image counts once.
        if real in visited:
            below.clear()
            repeated.append(printable(relative(folder)))
            continue
        visited.add(real)
        if folder != str(root) and any(marks <= set(files) for marks in RESULTS):
            below.clear()
            results.append(printable(relative(folder)))
            continue
        visible = sorted(name for name in below if not _is_hidden(name))
        below[:] = [name for name in visible if not _is_named_as_image(name)]
        below_root = "" if folder == str(root) else f"{relative(folder)}/"
        # A folder that is named as an image is listed, so that it is reported as what it is.
        for name in [*filter(_is_named_as_image, visible), *(name for name in files if not _is_hidden(name))]:
            path = Path(folder, name)
            if _is_named_as_image(name):
                images.append((below_root + name, path))
            else:
                others.append(printable(below_root + name))
    images.sort(key=lambda entry: entry[0])
    notes = []
    if others:
        verb = "that is not an image was" if len(others) == 1 else "that are not images were"
        notes.append(f"{plural(len(others), 'file')} {verb} left out: {first_few(sorted(others), NAMED_OTHERS)}")
    if repeated:
        what = f"{plural(len(repeated), 'folder')} reached a second time through a link, read once"
        notes.append(f"{what}: {first_few(sorted(repeated), NAMED_OTHERS)}")
    if results:
        what = f"{plural(len(results), 'folder')} left out, which hold{'s' * (len(results) == 1)} results of ssad"
        notes.append(f"{what}: {first_few(sorted(results), NAMED_OTHERS)}")
    if unlisted and not images:
        raise unreadable(unlisted, len(unlisted), role)
    if not images:
        holds = f" ({notes[0]})" if notes else ""
        rule = f"holds no images{holds}"
        raise InputError(f"{role}: {printable(root)}", rule, f"put images there ({', '.join(SUFFIXES)})")
    return FileList(
        [path for _, path in images], [printable(name) for name, _ in images], tuple(notes), tuple(unlisted)
    )


def check_list(source: Sequence[Any], role: str) -> FileList:
    """The files of a list, in its order.

    Args:
        source: Paths.
        role: What the images are for, "train" or "test": begins every message.

    Raises:
        InputError: The list is empty, holds what is not a path, or names a file twice.
    """
    if not source:
        raise InputError(role, "the list of files is empty", "name at least one image file")
    for index, item in enumerate(source):
        if isinstance(item, np.ndarray | Tensor):
            rule, remedy = "is an array in a list", "stack them into one array (N, C, H, W)"
            raise InputError(f"{role}[{index}]", rule, remedy)
        if not isinstance(item, str | os.PathLike) or not str(item):
            raise InputError(f"{role}[{index}]={item!r:.80}", "is not a path", "list image files only")
    paths = [Path(item) for item in source]
    index_of: dict[str, int] = {}
    for index, path in enumerate(paths):
        first = index_of.setdefault(os.path.realpath(path), index)
        if first != index:
            rule = f"is listed twice (items {first} and {index})"
            raise InputError(f"{role}: {printable(path)}", rule, "name each file once")
    return FileList(paths, [printable(item) for item in source])


def unreadable(
    failures: Sequence[tuple[str, str]],
    n_files: int,
    role: str,
    remedy: str = "fix or remove them, or pass skip_unreadable=True (--skip-unreadable)",
) -> InputError:
    """The refusal of files, (name, reason) each, that could not be read among ``n_files``."""
    thing = f"{role}: {len(failures)} of {plural(n_files, 'file')} cannot be read"
    reasons = {reason for _, reason in failures}
    if len(reasons) == 1 and len(failures) > 1:
        return InputError(
            thing, f"{first_few([name for name, _ in failures], NAMED_FAILURES)} ({reasons.pop()})", remedy
        )
    return InputError(thing, first_few([f"{name} ({reason})" for name, reason in failures], NAMED_FAILURES), remedy)


def printable(path: str | os.PathLike[str]) -> str:
    """A path as a name that any file and any terminal can hold, another one for every path.

    Bytes that are no UTF-8, and characters that break lines or steer terminals, become escapes; a backslash that
    belongs to the path is doubled.
    """
    text = os.fsencode(path).decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    text = text if os.sep == "\\" else text.replace("\\", "\\\\")
    return escaped(text)


def escaped(text: str) -> str:
    """A text in which what breaks lines or steers terminals, and bytes that are no UTF-8, are escapes."""
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    is_safe = unicodedata.category(character) not in UNSAFE and character not in DIRECTIONS
    return character if is_safe else character.encode("unicode_escape").decode()


def plural(number: int, noun: str) -> str:
    """A number with its noun: ``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == LEFT_BY_ARCHIVERS


def _is_named_as_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)
