"""What proves a selection: data sets with labels, and what the labels say. The only room that sees any."""

from pathlib import Path

from augmentations.errors import unknown_name
from benchmarks.datasets import LOADERS
from benchmarks.tasks.task import Task

__all__ = ["LOADERS", "Task", "load", "names"]


def names() -> list[str]:
    """The registered tasks; one that ends in a dash goes on with a name that the data give, as in ``classes-cat``."""
    return list(LOADERS)


def load(name: str, image_size: int = 64, *, root: str | Path | None = None) -> Task:
    """The task of that name, images of ``image_size`` px a side; ``root``: the folder that holds its data, for tasks
    that no package ships.

    A task whose anomalies are of several kinds is also known by each of them, as in ``mvtec-cable-bent_wire``.
    Raises InputError for an unknown name, where its data is not installed, or for a root that does not hold it.
    """
    if name in LOADERS:
        return LOADERS[name](name, root, image_size)
    for known in sorted(LOADERS, key=len, reverse=True):
        if known.endswith("-") and name.startswith(known):
            return LOADERS[known](name, root, image_size)
        if name.startswith(f"{known}-"):
            return LOADERS[known](known, root, image_size).of_kind(name.removeprefix(f"{known}-"))
    raise unknown_name("task", name, names())
