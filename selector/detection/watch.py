"""Waiting for images to arrive in a folder: each told of once, when it is complete."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from augmentations import InputError
from selector.inputs import reader as images

SECONDS = 1.0  # between two looks; a file that did not change from one to the next is complete


def arrivals(
    folder: Path, known: Callable[[str], bool], seconds: float = SECONDS, looks: int | None = None
) -> Iterator[list[str]]:
    """The names of new complete images in ``folder``, as they arrive, until interrupted (or for so many ``looks``).

    Complete means: not empty, and of the same length and time of change at two looks. Raises InputError where the
    folder is missing.
    """
    if not folder.is_dir():
        raise InputError(str(folder), "is not a folder", "name the folder in which images arrive")
    before: dict[str, tuple[int, int]] = {}
    look = 0
    while looks is None or look < looks:
        now = {name: _state(folder / name) for name in _names(folder) if not known(name)}
        ready = [name for name, state in now.items() if state[0] > 0 and before.get(name) == state]
        before = {name: state for name, state in now.items() if name not in ready}
        if ready:
            yield ready
        look += 1
        time.sleep(seconds)


def _names(folder: Path) -> list[str]:
    try:
        return images.names_of(folder)
    except InputError:  # no image yet
        return []


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # gone again, or renamed meanwhile
        return 0, 0
    return found.st_size, found.st_mtime_ns
