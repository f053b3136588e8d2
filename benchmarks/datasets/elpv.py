"""ELPV: 2,624 electroluminescence photos of solar cells, 300 x 300 px, with defect probabilities.

Buerhop-Lutz et al., "A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence
Imagery", EU PVSEC 2018; CC BY-NC-SA 4.0, shipped by the package elpv-dataset.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.tasks.task import SHIFTED, SPLIT_SEED, Loader, Task
from selector.inputs import reader

TRAIN_SHARE = 0.7  # of the cells that no expert saw a defect in
WAFERS = {"elpv-mono": "mono", "elpv-poly": "poly"}


def load(name: str, root: str | Path | None, image_size: int) -> Task:
    """The cells of one wafer type: train on 70% of those with defect probability 0, test on the rest and as many
    with probability 1, in random order.

    With the suffix ``-shifted`` the train cells are those with the highest numbers, and the test cells, defective ones
    too, those before them. Cells are numbered module by module, so that the modules tested are others than those
    trained on. Raises InputError when the package is not installed, or for a root.
    """
    source = generator(SPLIT_SEED, "benchmarks", name)
    split = divide(name, root, source)
    test_defective = split.defective[: len(split.held_out)]
    test = shuffled(torch.cat([split.held_out, test_defective]), source)
    chosen = torch.cat([split.train, test])
    pixels = reader.read_images([split.paths[i] for i in chosen.tolist()], image_size=image_size, role=name).pixels
    n_train = len(split.train)
    return Task(name, pixels[:n_train], pixels[n_train:], torch.isin(test, test_defective).to(torch.uint8))


LOADERS: dict[str, Loader] = dict.fromkeys([*WAFERS, *(f"{name}{SHIFTED}" for name in WAFERS)], load)


@dataclass(frozen=True, eq=False)
class Split:
    """The cells of one wafer type, divided.

    paths: the files; train, held_out, defective: indices into them, in random order, of the normal cells to train on,
    the normal cells held out, and the defective cells.
    """

    paths: list[Path]
    train: torch.Tensor
    held_out: torch.Tensor
    defective: torch.Tensor


def divide(name: str, root: str | Path | None, source: torch.Generator) -> Split:
    """The cells of the wafer type of ``name`` (a key of WAFERS, shifted or not): 70% of those with defect probability 0
    to train on, the rest held out. Tasks share a split by sharing the seed of ``source``.

    Raises InputError when the package is not installed, or for a root.
    """
    if root is not None:
        raise InputError(f"root={str(root)!r}", f"{name} comes with the package elpv-dataset", "leave root out")
    paths, probabilities = _cells(WAFERS[name.removesuffix(SHIFTED)])
    normal = shuffled(torch.as_tensor(probabilities == 0).nonzero()[:, 0], source)
    defective = shuffled(torch.as_tensor(probabilities == 1).nonzero()[:, 0], source)
    n_train = round(TRAIN_SHARE * len(normal))
    if name.endswith(SHIFTED):
        first = normal.sort(descending=True).values[n_train - 1]  # of the cells trained on, by number
        return Split(paths, normal[normal >= first], normal[normal < first], defective[defective < first])
    return Split(paths, normal[:n_train], normal[n_train:], defective)


def shuffled(indices: torch.Tensor, source: torch.Generator) -> torch.Tensor:
    """``indices`` (n,) in random order."""
    return indices[torch.randperm(len(indices), generator=source)]


def _cells(wafer: str) -> tuple[list[Path], np.ndarray]:
    try:
        import elpv_dataset
    except ModuleNotFoundError as error:
        raise InputError(
            "the ELPV solar cells", "need the package elpv-dataset", "pip install 'ssad[benchmarks]'"
        ) from error
    root = Path(elpv_dataset.__file__).parent / "data"
    table = np.loadtxt(root / "labels.csv", dtype=[("path", "U64"), ("probability", "f8"), ("type", "U8")])
    cells = table[table["type"] == wafer]
    return [root / path for path in cells["path"]], cells["probability"]
