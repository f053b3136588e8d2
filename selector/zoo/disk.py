"""What can go wrong with a disk, in one clear sentence."""

import errno
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from augmentations import InputError

RUN_AGAIN = "run the same command again"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
BROKEN = {errno.EIO, errno.ESTALE, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


class StorageError(OSError):
    """The run folder can't be written to. What was finished before is kept."""


def lock_folder(root: Path, by: str) -> FileLock:
    """Hold a folder for one writing process; the system lets go of it however that process ends.

    Args:
        root: The folder, which is made where there is none; it keeps an empty file ``.lock``.
        by: What holds it, for the error: "selection".

    Returns:
        The lock, to ``release``.

    Raises:
        InputError: Another process holds it.
    """
    lock = FileLock(root / ".lock")
    root.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(str(root), f"is in use by another {by}", "wait for it, or choose another folder") from error
    return lock


@contextmanager
def disk_errors(root: Path, kept: str = "every finished candidate is kept") -> Iterator[None]:
    """Turn a full or read-only disk into one clear sentence, which ends with what is ``kept``."""
    try:
        yield
    except OSError as error:
        # safetensors writes through us, so that every failure to store arrives here with its errno.
        stored = None if isinstance(error, StorageError) else as_storage_error(error, root, kept, BROKEN)
        if stored is None:
            raise
        raise stored from error


def as_storage_error(
    error: OSError, root: Path, kept: str = "what was finished is kept", others: Collection[int] = ()
) -> StorageError | None:
    """A full or read-only disk in one clear sentence; None for what is neither, nor one of the ``others``."""
    if error.errno not in FULL | CLOSED | set(others):
        return None
    remedy = "free space there" if error.errno in FULL else "make it writable, or choose another folder,"
    return StorageError(f"{root}: can't be written to ({os.strerror(error.errno)}); {remedy} and {RUN_AGAIN}: {kept}")
