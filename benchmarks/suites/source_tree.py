"""Which state of the source code computed something: a commit, and what differs from it."""

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
# Results are made by code, and making them changes no code.
CODE = ("augmentations", "detectors", "selector", "benchmarks", ":(exclude)benchmarks/results")


class SourceTree(NamedTuple):
    """The commit, "" where there is none, and a digest of the code that differs from it, "" for none."""

    commit: str
    changes: str

    def __str__(self) -> str:
        return f"{self.commit}-dirty" if self.changes else self.commit


def source_tree() -> SourceTree:
    """The state of the code that runs."""
    commit = _git("describe", "--always").decode().strip()
    if not commit:
        return SourceTree("", "")
    digest = hashlib.sha256()
    tracked = _git("diff", "HEAD", "--binary", "--", *CODE)
    digest.update(tracked)
    untracked = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *CODE).decode().split("\0")[:-1]
    for name in untracked:
        digest.update(name.encode() + (ROOT / name).read_bytes())
    return SourceTree(commit, digest.hexdigest()[:12] if tracked or untracked else "")


def _git(*words: str) -> bytes:
    git = shutil.which("git")
    if git is None:
        return b""
    return subprocess.run([git, *words], cwd=ROOT, capture_output=True, check=False).stdout
