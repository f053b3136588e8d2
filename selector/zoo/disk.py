"""What can go wrong with a disk, in one clear sentence."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RUN_AGAIN = "run the same command again"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
BROKEN = {errno.EIO, errno.ESTALE, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


class StorageError(OSError):
    """The run folder can't be written to. What was finished before is kept."""


@contextmanager
def disk_errors(root: Path, kept: str = "every finished candidate is kept") -> Iterator[None]:
    """Turn a full or read-only disk into one clear sentence, which ends with what is ``kept``."""
    try:
        yield
    except OSError as error:
        # safetensors writes through us, so that every failure to store arrives here with its errno.
        if isinstance(error, StorageError) or error.errno not in FULL | CLOSED | BROKEN:
            raise
        remedy = "free space there" if error.errno in FULL else "make it writable, or choose another folder,"
        raise StorageError(
            f"{root}: can't be written to ({os.strerror(error.errno or 0)}); {remedy} and {RUN_AGAIN}: {kept}"
        ) from error
