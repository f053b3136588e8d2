"""Waiting for images to arrive in a folder or to change there: each is reported when its file is complete."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from augmentations import InputError
from selector.detection.image_file import ImageFile, image_files
from selector.inputs import reader
from selector.inputs.files import FileList

SECONDS = 1.0  # between two looks; a file that did not change from one to the next is complete
LONGEST_WAIT = 64  # looks between two tries of an image that can't be read
LARGEST_SHARE = 0.3  # of the time that looking may take, in folders of very many files


def watch_folder(
    folder: Path, is_current: Callable[[ImageFile], bool], seconds: float = SECONDS, looks: int | None = None
) -> Iterator[list[ImageFile]]:
    """The complete images of a folder as they arrive or change, until interrupted.

    Complete means: not empty, and of the same length and time of change at two looks. A file that changes later is
    reported again, so that a transfer that paused for longer than that is read as a whole in the end. One that was
    reported and is not current afterwards may have been unreadable for a reason that passes, such as a lost network or
    a want of memory: it is reported again after 1, 2, 4, ... looks.

    Args:
        folder: The folder that images arrive in.
        is_current: Whether the image was handled already with the content that it has.
        seconds: The time between two looks, at least.
        looks: How many looks to take; None: until interrupted.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(str(folder), "is not a folder", "name the folder in which images arrive")
    settled: dict[str, tuple[int, int, int]] = {}
    before: dict[str, tuple[int, int, int]] = {}
    again: dict[str, tuple[int, int]] = {}  # by name: the look at which it is due, and how many looks it waited
    look = 0
    while looks is None or look < looks:
        started = time.monotonic()
        files = list(image_files(files_now(folder)))
        changed = [file for file in files if settled.get(file.name) != file.state]
        complete = [file for file in changed if file.size > 0 and before.get(file.name) == file.state]
        before = {file.name: file.state for file in changed}
        settled |= {file.name: file.state for file in complete}
        tried = (file for file in files if file.name in again and file.name not in before)
        due = [file for file in tried if again[file.name][0] <= look]
        for file in complete:
            again.pop(file.name, None)  # its content is new
        took = time.monotonic() - started
        ready = [file for file in (*complete, *due) if not is_current(file)]
        if ready:
            yield ready
        for file in ready:
            _, waited = again.pop(file.name, (0, 0))
            if not is_current(file):
                wait = min(max(1, 2 * waited), LONGEST_WAIT)
                again[file.name] = look + wait, wait
        look += 1
        time.sleep(max(seconds, took / LARGEST_SHARE))


def files_now(folder: Path) -> FileList:
    """The images of a folder; none where it holds none yet."""
    try:
        return reader.files_of(folder)
    except InputError:
        return FileList((), ())
