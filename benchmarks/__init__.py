"""What proves a selection: data sets with labels, and what the labels say. The only room that sees any."""

from augmentations.errors import unknown_name
from benchmarks import elpv
from benchmarks.task import Task

LOADERS = {name: elpv.load for name in elpv.WAFERS}

__all__ = ["LOADERS", "Task", "load", "names"]


def names() -> list[str]:
    """The registered tasks."""
    return list(LOADERS)


def load(name: str, image_size: int = 64) -> Task:
    """The task of that name, images of ``image_size`` px a side.

    Raises InputError for an unknown name, or where its data is not installed.
    """
    if name not in LOADERS:
        raise unknown_name("task", name, names())
    return LOADERS[name](name, image_size)
