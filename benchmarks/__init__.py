"""What proves a selection: data sets with labels, and what the labels say. The only room that sees any."""

from collections.abc import Callable
from pathlib import Path

from augmentations.errors import unknown_name
from benchmarks import elpv, generated
from benchmarks.task import Task

# A loader is called with the task's name, the folder of its data or None, and the image size.
LOADERS: dict[str, Callable[[str, str | Path | None, int], Task]] = {
    "elpv-mono": elpv.load,
    "elpv-poly": elpv.load,
    "elpv-mono-generated": generated.load,
    "elpv-poly-generated": generated.load,
}

__all__ = ["LOADERS", "Task", "load", "names"]


def names() -> list[str]:
    """The registered tasks."""
    return list(LOADERS)


def load(name: str, image_size: int = 64, *, root: str | Path | None = None) -> Task:
    """The task of that name, images of ``image_size`` px a side; ``root``: the folder that holds its data, for tasks
    that no package ships.

    Raises InputError for an unknown name, where its data is not installed, or for a root that would not be read.
    """
    if name not in LOADERS:
        raise unknown_name("task", name, names())
    return LOADERS[name](name, root, image_size)
