"""An image file as a folder lists it: its name for people, its path, and what tells that its content changed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selector.inputs.files import FileList


@dataclass(frozen=True)
class ImageFile:
    """A file at the instant at which it was listed.

    Attributes:
        name: What it is called in results.
        path: Where it is.
        state: Size in bytes, and the times of the last change of its content and of its entry in nanoseconds.
    """

    name: str
    path: Path
    state: tuple[int, int, int]

    @property
    def size(self) -> int:
        """Bytes; 0 where there is no such file."""
        return self.state[0]

    def identity(self) -> dict[str, Any]:
        """What belongs to the row of this image: its state, and the digest of its content.

        The digest is empty where the file can't be read or changed since it was listed: what was made of it may be
        of another content, and is made again.
        """
        digest = self.digest()
        is_same = state_of(self.path) == self.state
        return {"file": list(self.state), "sha256": digest if is_same else ""}

    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal; empty where it can't be read."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""


def image_files(files: FileList) -> Iterator[ImageFile]:
    """Files as they are now, nothing decoded."""
    for path, name in zip(files.paths, files.names, strict=True):
        yield ImageFile(name, path, state_of(path))


def state_of(path: Path) -> tuple[int, int, int]:
    """As ``ImageFile.state``; zeroes where there is no such file."""
    try:
        status = path.stat()
    except OSError:  # deleted or renamed meanwhile, or a link to nothing
        return 0, 0, 0
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
