"""Waiting for images to arrive in a folder: each is reported once, when its file is complete."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from augmentations import InputError
from selector.inputs import reader

SECONDS = 1.0  # between two looks; a file that did not change from one to the next is complete


def watch_folder(
    folder: Path, is_done: Callable[[str], bool], seconds: float = SECONDS, looks: int | None = None
) -> Iterator[list[str]]:
    """The names of new complete images in a folder, as they arrive, until interrupted.

    Complete means: not empty, and of the same length and time of change at two looks.

    Args:
        folder: The folder that images arrive in.
        is_done: Whether the image of a name was handled already.
        seconds: The time between two looks.
        looks: How many looks to take; None: until interrupted.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(str(folder), "is not a folder", "name the folder in which images arrive")
    before: dict[str, tuple[int, int]] = {}
    look = 0
    while looks is None or look < looks:
        now = {name: _size_and_time(folder / name) for name in _names(folder) if not is_done(name)}
        ready = [name for name, state in now.items() if state[0] > 0 and before.get(name) == state]
        before = {name: state for name, state in now.items() if name not in ready}
        if ready:
            yield ready
        look += 1
        time.sleep(seconds)


def _names(folder: Path) -> list[str]:
    try:
        return reader.names_of(folder)
    except InputError:  # no image yet
        return []


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # deleted or renamed meanwhile
        return 0, 0
    return status.st_size, status.st_mtime_ns
