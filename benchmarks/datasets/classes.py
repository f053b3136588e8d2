"""One class of images against the rest: a folder for each class (Cats-vs-Dogs, ImageNet-10), and CelebA's attributes.

CelebA: Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from augmentations import InputError
from augmentations.errors import unknown_name
from benchmarks.datasets.defects import Item, Photo, assemble, by_folder, mixed, required_root
from benchmarks.tasks.task import Loader, Task

TRAIN_SHARE = 0.7  # of the normal images, where the data set itself is not divided
ATTRIBUTES, PARTITION, FACES = "list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba"
IN_TRAIN, IN_TEST = 0, 2  # the numbers of CelebA's partitions; 1 is its validation set


def load(name: str, root: str | Path | None, image_size: int) -> Task:
    """The class named after ``classes-`` against the others, which are the kinds; test images in random order.

    root holds one folder per class: a random 70% of the normal class are trained on, all else is the test; or it holds
    train and test with one folder per class each, and the other classes in train are not used. Raises InputError for
    another root, or a class that it does not hold.
    """
    normal = name.removeprefix("classes-")
    says = "root must hold <class>/*.png for each class, or train/<class>/*.png and test/<class>/*.png"
    home = required_root(name, root, says)
    divided = (home / "train").is_dir() and (home / "test").is_dir()
    train_home, test_home = (home / "train", home / "test") if divided else (home, home)
    classes = by_folder(name, train_home, says)
    if normal not in classes:
        unknown = unknown_name(f"{name}: class", normal, list(classes))
        raise InputError(unknown.thing, unknown.rule, f"{unknown.remedy}; {says}")
    train, tested = classes[normal], by_folder(name, test_home, says)
    if not divided:
        train, tested[normal] = _split(name, train)
    test = [Photo(test_home / file, "" if kind == normal else kind) for kind, files in tested.items() for file in files]
    return assemble(name, image_size, [train_home / file for file in train], test, says)


def load_celeba(name: str, root: str | Path | None, image_size: int) -> Task:
    """Faces without the attribute named after ``celeba-`` against those with it; test images in random order.

    Trains on the train partition, tests on the test partition; without a file of partitions, trains on a random 70%
    of the faces without the attribute and tests on all others. Faces that the list of attributes leaves out are not
    used. Raises InputError for a root without the files, an unknown attribute, or files that cannot be understood.
    """
    attribute = name.removeprefix("celeba-")
    says = f"root must hold {FACES}/*.jpg, {ATTRIBUTES} and, to divide as published, {PARTITION}"
    home = required_root(name, root, says)
    # Its first line is the number of faces; its second names no column for them, which makes them the index.
    table = _table(name, home / ATTRIBUTES, says, skiprows=1)
    if attribute not in table:
        raise unknown_name(f"{name}: attribute", attribute, list(table.columns))
    has = table[attribute]
    if not has.isin([-1, 1]).all():
        raise InputError(f"{name}: {home / ATTRIBUTES}", "holds values that are not -1 or 1", "get the file again")
    normal = has.index[has == -1]
    if (home / PARTITION).exists():
        table = _table(name, home / PARTITION, says, header=None, names=["face", "number"], index_col="face")
        number = table["number"].reindex(has.index)
        if number.hasnans:
            raise InputError(f"{name}: {has.index[number.isna()][0]}", f"is not in {PARTITION}", "get the file again")
        train, tested = normal[number[normal] == IN_TRAIN].tolist(), has.index[number == IN_TEST]
    else:
        train, _ = _split(name, normal.tolist())
        tested = has.index.difference(train)
    test = [Photo(home / FACES / face, attribute if has[face] == 1 else "") for face in tested]
    return assemble(name, image_size, [home / FACES / face for face in train], test, says)


LOADERS: dict[str, Loader] = {"classes-": load, "celeba-": load_celeba}


def _split(name: str, normal: list[Item]) -> tuple[list[Item], list[Item]]:
    order = mixed(normal, name, "split")
    n_train = round(TRAIN_SHARE * len(order))
    return order[:n_train], order[n_train:]


def _table(name: str, path: Path, says: str, **how: Any) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, sep=r"\s+", **how)
        if not table.index.is_unique:
            raise ValueError(f"{table.index[table.index.duplicated()][0]} is listed twice")
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {path}", f"cannot be read ({error})", says) from error
    return table
