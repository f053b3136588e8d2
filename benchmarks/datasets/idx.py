"""MNIST and Fashion-MNIST, in the IDX files that their publishers ship: 28 x 28 px, gray, ten classes each.

LeCun, Cortes & Burges; Xiao, Rasul & Vollgraf, "Fashion-MNIST", 2017 (MIT licence).
"""

import gzip
from pathlib import Path

import numpy as np

from augmentations import InputError
from benchmarks.datasets.arrays import Part, one_class
from benchmarks.tasks.task import Loader, Task

CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        *("t-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle-boot"),
    ),
}
INSTALLED = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}  # Debian's package dataset-fashion-mnist
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
UINT8 = 8  # the code of the element type in an IDX header


def load(name: str, root: str | Path | None, image_size: int) -> Task:
    """One class against the rest: train on the class's train images, test on all test images; kinds: the classes.

    Raises InputError for a root without the files, or a file that is not what its header says.
    """
    family = name.rpartition("-")[0]
    folder = INSTALLED.get(family) if root is None else Path(root)
    if folder is None or not all(_find(folder, file) for file in FILES):
        remedy = f"name a folder that holds {', '.join(FILES)}, each as it is or with .gz"
        if family in INSTALLED:
            remedy += ", or install Debian's package dataset-fashion-mnist"
        raise InputError(f"root={None if root is None else str(root)!r}", f"does not hold {family}", remedy)
    train, test = (Part(_read(folder, pixels), _read(folder, classes)) for pixels, classes in (FILES[:2], FILES[2:]))
    return one_class(name, image_size, train, test, CLASSES[family])


LOADERS: dict[str, Loader] = {f"{family}-{k}": load for family in CLASSES for k in range(10)}


def _find(folder: Path, file: str) -> Path | None:
    return next((path for path in (folder / f"{file}.gz", folder / file) if path.is_file()), None)


def _read(folder: Path, file: str) -> np.ndarray:
    """The array of an IDX file: two zero bytes, the element type, the number of dimensions, each as big-endian
    uint32, then the elements."""
    path = _find(folder, file)
    assert path is not None
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if len(content) < 4 or content[:3] != bytes([0, 0, UINT8]):
            raise ValueError("no IDX file of bytes")
        start = 4 + 4 * content[3]
        shape = np.frombuffer(content[4:start], ">u4")
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(str(path), f"is damaged ({error})", "get the file again") from error
