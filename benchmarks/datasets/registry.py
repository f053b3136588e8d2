"""The registered tasks, and what loads them."""

from pathlib import Path

from augmentations.errors import unknown_name
from benchmarks.datasets import arrays, classes, defects, elpv, generated, idx, packaged, photos, shapes, textures
from benchmarks.tasks.task import Loader, Task

# Called with the full name; a key that ends in a dash serves every name that starts with it.
LOADERS: dict[str, Loader] = {
    **elpv.LOADERS,
    **generated.LOADERS,
    **photos.LOADERS,
    **textures.LOADERS,
    **shapes.LOADERS,
    **packaged.LOADERS,
    **idx.LOADERS,
    **defects.LOADERS,
    **classes.LOADERS,
    **arrays.LOADERS,
}
NUMBERED = {**idx.LOADERS, **arrays.LOADERS, **packaged.CLASSES}  # tasks whose name ends in the number of a class


def names() -> list[str]:
    """The registered tasks.

    Returns:
        Names for ``load``; one that ends in a dash is completed by a name from the data, as in ``classes-cat``.

    Example:
        >>> import benchmarks
        >>> "elpv-mono" in benchmarks.names()
        True
    """
    return list(LOADERS)


def load(name: str, image_size: int = 64, *, root: str | Path | None = None) -> Task:
    """The task of that name, with its images, labels and masks in memory.

    Args:
        name: a registered task, alone or followed by one of its kinds of anomalies, as in ``mvtec-cable-bent_wire``.
        image_size: side of the images, px.
        root: the folder of its data, for tasks that no package ships.

    Returns:
        The task; only its ``train`` and ``test`` may enter a selection.

    Raises:
        InputError: for an unknown name, where its data are not installed, or for a root without them.

    Example:
        >>> import benchmarks
        >>> task = benchmarks.load("elpv-mono", image_size=32)  # needs the extra: pip install "ssad[benchmarks]"
        >>> task.train.shape[1:], len(task.test) == len(task.labels)
        (torch.Size([1, 32, 32]), True)
    """
    if name in LOADERS:
        return LOADERS[name](name, root, image_size)
    for known in sorted(LOADERS, key=len, reverse=True):
        if known.endswith("-") and name.startswith(known):
            return LOADERS[known](name, root, image_size)
        if name.startswith(f"{known}-"):
            return LOADERS[known](known, root, image_size).of_kind(name.removeprefix(f"{known}-"))
    raise unknown_name("task", name, names())


def other_classes(name: str) -> list[str]:
    """The tasks whose normal class is another one of the same data set; none where its classes are not numbered."""
    return [other for other in NUMBERED if name in NUMBERED and other != name and family(other) == family(name)]


def family(name: str) -> str:
    """The data set that a task tests one class of against the others; elsewhere the name itself.

    The test images of one of its tasks are those of all others, so that they are never independent.
    """
    return name.rpartition("-")[0] if name in NUMBERED else name
