"""ELPV: 2,624 electroluminescence photos of solar cells, 300 x 300 px, with defect probabilities.

Buerhop-Lutz et al., "A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence
Imagery", EU PVSEC 2018; CC BY-NC-SA 4.0, shipped by the package elpv-dataset.
"""

from pathlib import Path

import numpy as np
import torch

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.task import Task
from selector import images

TRAIN_SHARE = 0.7  # of the cells that no expert saw a defect in
SPLIT_SEED = 0  # the task is the same whatever the seed of a selection
WAFERS = {"elpv-mono": "mono", "elpv-poly": "poly"}


def load(name: str, image_size: int) -> Task:
    """The cells of one wafer type: train on 70% of those with defect probability 0, test on the rest and as many
    with probability 1, in random order.

    Raises InputError when the package is not installed.
    """
    paths, probabilities = _cells(WAFERS[name])
    source = generator(SPLIT_SEED, "benchmarks", name)
    normal = _shuffled(torch.as_tensor(probabilities == 0).nonzero()[:, 0], source)
    defective = _shuffled(torch.as_tensor(probabilities == 1).nonzero()[:, 0], source)
    n_train = round(TRAIN_SHARE * len(normal))
    test_normal = normal[n_train:]
    test_defective = defective[: len(test_normal)]
    test = _shuffled(torch.cat([test_normal, test_defective]), source)
    chosen = torch.cat([normal[:n_train], test])
    pixels = images.read([paths[i] for i in chosen.tolist()], image_size=image_size, role=name).pixels
    labels = torch.as_tensor(probabilities)[test] == 1
    return Task(name, pixels[:n_train], pixels[n_train:], labels.to(torch.uint8))


def _shuffled(indices: torch.Tensor, source: torch.Generator) -> torch.Tensor:
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
    kept = table[table["type"] == wafer]
    return [root / path for path in kept["path"]], kept["probability"]
