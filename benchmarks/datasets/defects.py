"""Photographed defects with masks, laid out as their publishers ship them, or in a folder of one's own.

MVTec AD: Bergmann et al., CVPR 2019. MPDD: Jezek et al., ICUMT 2021. BTech: Mishra et al., "VT-ADL", ISIE 2021.
VisA: Zou et al., "SPot-the-Difference", ECCV 2022. ``folder``: one's own, with normal images anywhere below train and
in test/normal, anomalies in test/<kind>, and a mask of the same path in masks/<kind> for each, or no folder masks.
A mask's pixel is anomalous where it is not black. A mask may be empty; normal images have none.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import pandas as pd
import torch
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.tasks.task import SPLIT_SEED, Loader, Task
from selector.inputs import reader
from selector.inputs.decoding import decode
from selector.inputs.unreadable import UnreadableError

CATEGORIES = {
    "mvtec": (
        *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut"),
        *("pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper"),
    ),
    "mpdd": ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"),
    "btech": ("01", "02", "03"),
    "visa": (
        *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"),
        *("pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"),
    ),
}
VISA_SPLIT = "split_csv/1cls.csv"
VISA_COLUMNS = ("object", "split", "label", "image", "mask")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Layout:
    """Folders below a category's: train images, the kind of test images that is normal, and masks.

    A mask has the name of its image but for ``ending`` and the suffix.
    """

    train: str
    normal: str
    masks: str
    ending: str = ""
    needs_masks: bool = True

    def says(self, category: str) -> str:
        """What a root must hold, for a user to read."""
        files = [
            *(f"{self.train}/*.png", f"test/{self.normal}/*.png", "test/<kind>/<stem>.png"),
            f"{self.masks}/<kind>/<stem>{self.ending}.png" + " (or no masks at all)" * (not self.needs_masks),
        ]
        return "root must hold " + ", ".join(str(Path(category, file)) for file in files)


LAYOUTS = {
    "mvtec": Layout("train/good", "good", "ground_truth", "_mask"),
    "mpdd": Layout("train/good", "good", "ground_truth", "_mask"),
    "btech": Layout("train/ok", "ok", "ground_truth"),
    "folder": Layout("train", "normal", "masks", needs_masks=False),
}


class Photo(NamedTuple):
    """A test image: its file, the kind of its anomaly ("" for a normal one), and the file of its mask, if any."""

    path: Path
    kind: str
    mask: Path | None = None


def load(name: str, root: str | Path | None, image_size: int) -> Task:
    """One category of MVTec AD, MPDD or BTech, or a folder of one's own; test images in random order; kinds: the
    folders of the anomalies.

    Masks belong to images of the same relative path. Raises InputError for a root that is not laid out as LAYOUTS
    says, a mask that is missing, left over, unreadable or not of its image's size.
    """
    family, _, category = name.partition("-")
    layout = LAYOUTS[family]
    says = layout.says(category)
    home = required_root(name, root, says) / category
    train = [home / layout.train / file for file in listed(name, home / layout.train, says)]
    tested = by_folder(name, home / "test", says)
    anomalous = [file for kind, files in tested.items() if kind != layout.normal for file in files]
    masks: dict[Path, Path] = {}
    if layout.needs_masks or (home / layout.masks).exists():
        masks = _paired(name, anomalous, listed(name, home / layout.masks, says), layout.ending, says)
    test = [Photo(home / "test" / file, "") for file in tested.get(layout.normal, [])]
    for file in anomalous:
        mask = home / layout.masks / masks[file] if masks else None
        test.append(Photo(home / "test" / file, file.parts[0], mask))
    return assemble(name, image_size, train, test, says)


def load_visa(name: str, root: str | Path | None, image_size: int) -> Task:
    """One category of VisA in the publisher's one-class split, which pairs images and masks; test images in random
    order; kinds: ``anomaly``, as VisA does not distinguish any.

    Raises InputError as ``load`` does.
    """
    category = name.removeprefix("visa-")
    folders = f"{category}/Data/Images/Normal, {category}/Data/Images/Anomaly and {category}/Data/Masks/Anomaly"
    says = f"root must hold {folders}, and {VISA_SPLIT} with the columns {', '.join(VISA_COLUMNS)}"
    home = required_root(name, root, says)
    try:
        table = pd.read_csv(home / VISA_SPLIT, dtype=str, keep_default_na=False)
        rows = table.loc[table["object"] == category, list(VISA_COLUMNS)]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{name}: {home / VISA_SPLIT}", f"cannot be read ({error})", says) from error
    train, test = [], []
    for _, split, label, image, mask in rows.itertuples(index=False):
        if (split, label) == ("train", "normal"):
            train.append(home / image)
        elif (split, label) == ("test", "normal"):
            test.append(Photo(home / image, ""))
        elif (split, label) == ("test", "anomaly"):
            if not (home / mask).is_file():
                raise InputError(f"{name}: {image}", f"has no mask {mask}", says)
            test.append(Photo(home / image, label, home / mask))
        else:
            rule = f"split {split!r} with label {label!r} is not of a one-class split"
            raise InputError(f"{name}: {image}", rule, says)
    masks = Path(category, "Data/Masks/Anomaly")
    paired = {photo.mask for photo in test}
    there = [masks / file for file in listed(name, home / masks, says)]
    _refuse_left_over(name, [mask for mask in there if home / mask not in paired], says)
    return assemble(name, image_size, train, test, says)


LOADERS: dict[str, Loader] = {
    "folder": load,
    **{f"{family}-{category}": load for family in ("mvtec", "mpdd", "btech") for category in CATEGORIES[family]},
    **{f"visa-{category}": load_visa for category in CATEGORIES["visa"]},
}


def required_root(name: str, root: str | Path | None, says: str) -> Path:
    """The root that a user named. Raises InputError for None, with what it must hold."""
    if root is None:
        raise InputError("root=None", f"must be a folder with the data of {name}", says)
    return Path(root)


def listed(name: str, folder: Path, says: str) -> list[Path]:
    """The images below ``folder`` as sorted relative paths, hidden ones left out.

    Raises InputError where there are none, with what a root must hold.
    """
    if not folder.is_dir():
        raise InputError(f"{name}: {folder}", "is not a folder", says)
    try:
        return [path.relative_to(folder) for path in reader.files_of(folder).paths]
    except InputError as error:
        raise InputError(f"{name}: {folder}", error.rule, says) from error


def by_folder(name: str, folder: Path, says: str) -> dict[str, list[Path]]:
    """The images below each sub-folder of ``folder``, paths relative to ``folder``.

    Raises InputError where there are none, and for an image that is in no sub-folder.
    """
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in listed(name, folder, says):
        if len(file.parts) == 1:
            raise InputError(f"{name}: {folder / file}", "is not in a sub-folder, which names its kind", says)
        by_name[file.parts[0]].append(file)
    return dict(by_name)


def mixed(items: Sequence[Item], name: str, purpose: str) -> list[Item]:
    """The items in random order, the same each time for a task of that name and a purpose."""
    order = torch.randperm(len(items), generator=generator(SPLIT_SEED, "benchmarks", name, purpose))
    return [items[i] for i in order.tolist()]


def assemble(name: str, image_size: int, train: Sequence[Path], test: Sequence[Photo], says: str) -> Task:
    """The files as a task, test images in random order, gray only if all images are; masks as ``shrunk``, None if no
    image has one.

    Raises InputError where train images, normal or anomalous test images are missing, and for files that cannot be
    read.
    """
    counts = {
        "train images": len(train),
        "normal test images": sum(not photo.kind for photo in test),
        "anomalous test images": sum(bool(photo.kind) for photo in test),
    }
    for what, count in counts.items():
        if count == 0:
            raise InputError(name, f"has no {what}", says)
    test = mixed(test, name, "order")
    read = reader.read_images([*train, *(photo.path for photo in test)], image_size=image_size, role=name)
    masks = None
    if any(photo.mask for photo in test):
        masks = torch.zeros(len(test), image_size, image_size, dtype=torch.uint8)
        for mask, photo, size in zip(masks, test, read.sizes[len(train) :], strict=True):
            if photo.mask is not None:
                mask.copy_(shrunk(_read_mask(name, photo.mask, size), image_size))
    kinds = tuple(photo.kind for photo in test)
    labels = torch.tensor([int(bool(kind)) for kind in kinds], dtype=torch.uint8)
    return Task(name, read.pixels[: len(train)], read.pixels[len(train) :], labels, masks, kinds)


def shrunk(mask: Tensor, size: int) -> Tensor:
    """A mask (H,W) bool at (size,size) uint8: 1 where at least half of a pixel's area is anomalous.

    The most covered pixel is 1 as well, so that no anomaly is lost; an empty mask stays empty.
    """
    rows, columns = (_overlaps(side, size) for side in mask.shape)
    area = rows @ mask.double() @ columns.T
    anomalous = 2 * area >= mask.numel()
    anomalous.view(-1)[area.argmax()] = area.max() > 0
    return anomalous.to(torch.uint8)


def _overlaps(side: int, size: int) -> Tensor:
    """(size,side): what each of ``size`` equal parts of a line shares with each of ``side``, in units of which a part
    is ``side`` long: whole numbers, so that half of an area is exactly half."""
    outer, inner = torch.arange(size + 1).double() * side, torch.arange(side + 1).double() * size
    ends = torch.minimum(outer[1:, None], inner[1:])
    return (ends - torch.maximum(outer[:-1, None], inner[:-1])).clamp(min=0)


def _read_mask(name: str, path: Path, size: tuple[int, int]) -> Tensor:
    try:
        # VisA's masks hold the numbers of defect classes, 1, 2, ..., and look black.
        mask = decode(path).pixels.amax(0) > 0
    except UnreadableError as error:
        raise InputError(f"{name}: mask {path}", f"cannot be read ({error})", "get the file again") from error
    if tuple(mask.shape) != size:
        rule = f"is {mask.shape[0]} x {mask.shape[1]} px, its image {size[0]} x {size[1]}"
        raise InputError(f"{name}: mask {path}", rule, "give a mask of the image's size")
    return mask


def _paired(name: str, anomalous: list[Path], masks: list[Path], ending: str, says: str) -> dict[Path, Path]:
    wanted = _by_stem(name, anomalous, ending)
    mask_of = _by_stem(name, masks, "")
    for stem, file in wanted.items():
        if stem not in mask_of:
            raise InputError(f"{name}: {file}", f"has no mask {stem}.*", says)
    _refuse_left_over(name, [mask for stem, mask in mask_of.items() if stem not in wanted], says)
    return {file: mask_of[stem] for stem, file in wanted.items()}


def _by_stem(name: str, files: list[Path], ending: str) -> dict[Path, Path]:
    by_stem: dict[Path, Path] = {}
    for file in files:
        other = by_stem.setdefault(file.with_name(file.stem + ending), file)
        if other != file:
            raise InputError(
                f"{name}: {file}", f"has the stem of {other.name}", "give each image and its mask one stem"
            )
    return by_stem


def _refuse_left_over(name: str, masks: list[Path], says: str) -> None:
    if masks:
        raise InputError(f"{name}: mask {masks[0]}", "has no image", f"remove it, or add its image: {says}")
