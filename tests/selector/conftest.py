"""What the selector's tests share: the run store, a finished selection, and parts of a user's own."""

import importlib
import os
import shutil
from pathlib import Path

import pytest
import torch

from detectors import get_preset
from selector import select_best
from selector.zoo.plan import Plan
from selector.zoo.prepare import prepare
from selector.zoo.store import Store


@pytest.fixture(scope="session")
def images(stripes, scratched):
    """What a run keeps of its images: (n,1,32,32) by split."""
    test = torch.cat([stripes(6, 5), scratched(4)])
    return {"train": stripes(14, 2), "validation": stripes(3, 3), "calibration": stripes(3, 4), "test": test}


@pytest.fixture(scope="session")
def candidates(tiny):
    """Two of one augmentation, so two trainings."""
    grid = {"cutout": [{"area": (0.02, 0.1)}, {"area": (0.1, 0.2)}]}
    return Plan.of(grid, ("classifier",), ("gaussian",), get_preset(tiny)).candidates(seed=0)


@pytest.fixture
def description(candidates):
    """A run.json."""
    settings = {
        "search": "grid",
        "preset": "tiny",
        "seed": 0,
        "train images": 64 * "a",
        "test images": 64 * "b",
    }
    return {"settings": settings, "names": {"train": [f"{i}.png" for i in range(14)]}, "versions": {"python": "3.11"}}


@pytest.fixture
def store(tmp_path, description, images, candidates):
    store = Store(tmp_path / "run")
    augmentations = [candidate.training.make_augmentation() for candidate in candidates]
    with store.locked():
        prepare(store, description, images, augmentations, seed=0)
    return store


# A whole selection ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def data(stripes, scratched):
    """40 normal images, and 40 test images of which 10 are anomalous."""
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    return stripes(40), torch.cat([stripes(30, 5), scratched(10)])[order]


@pytest.fixture(scope="session")
def options(tiny):
    """Of ``select_best``: three trainings of a second."""
    grids = {"cutout": [{}, {"area": (0.1, 0.2)}], "cutpaste_3way": [{}]}
    return {"augmentations": grids, "preset": tiny, "jobs": 1}


@pytest.fixture(scope="session")
def run(data, options, tmp_path_factory):
    """A finished selection. What changes a run folder takes ``run_copy``."""
    return select_best(*data, **options, out=tmp_path_factory.mktemp("selection") / "run")


@pytest.fixture
def run_copy(run, tmp_path):
    """The path of a copy of the finished run, to change."""
    return Path(shutil.copytree(run.path, tmp_path / "copy", ignore=shutil.ignore_patterns(".lock")))


# Parts of a user's own -----------------------------------------------------------------------------------------------

OWN_PARTS = '''
"""A scorer and a kind of detector that are no part of the package."""

from dataclasses import dataclass

import torch
from torch import nn

from detectors import Kind, Scorer


class Knn(Scorer):
    """The distance to the k-th nearest row."""

    name = "knn"
    score_is_distance = True

    def __init__(self, k: int = 1) -> None:
        super().__init__(k=k)
        self.k = k

    def fit(self, rows):
        return self.remember(rows=rows.detach())

    def forward(self, rows):
        distances = torch.cdist(rows.reshape(-1, rows.shape[-1]), self.rows)
        return distances.kthvalue(self.k, dim=1).values.view(rows.shape[:-1])


@dataclass(frozen=True)
class FrozenSettings:
    image_size: int
    width: int = 8


class Frozen(Kind):
    """Random features: there is nothing to learn, and so nothing to learn against."""

    name = "frozen_features"
    Settings = FrozenSettings
    uses_augmentation = False

    def build_encoder(self, channels):
        return nn.Sequential(nn.Conv2d(channels, self.settings.width, 5, stride=2), nn.ReLU())
'''


@pytest.fixture(scope="session")
def own_parts(tmp_path_factory):
    """A module with the scorer ``Knn`` and the kind ``Frozen``, which worker processes can import."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_parts.py").write_text(OWN_PARTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield importlib.import_module("own_parts")
