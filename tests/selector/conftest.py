"""What the tests of the run store and the zoo share."""

import pytest
import torch

from detectors import preset
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
    return Plan.of(grid, ("classifier",), ("gaussian",), preset(tiny)).candidates(seed=0)


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
