"""Where data lie that no package ships, as the command line names them."""

from collections.abc import Iterable
from pathlib import Path

from augmentations import InputError


def folders(pairs: Iterable[str]) -> dict[str, Path]:
    """The folders of ``NAME=FOLDER``, by name. Raises InputError for a pair of another form."""
    roots = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise InputError(f"--root {pair}", "must be NAME=FOLDER", "try --root mvtec=data/mvtec")
        roots[name] = Path(path)
    return roots
