"""What the tests of the run store and the zoo share."""

import pytest
import torch

from detectors import preset
from selector.zoo.candidates import plan
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
    return plan(grid, ("classifier",), ("gaussian",), preset(tiny), seed=0)


@pytest.fixture
def description(candidates):
    """A run.json."""
    settings = {
        "candidates": [candidate.to_json() for candidate in candidates],
        "preset": "tiny",
        "seed": 0,
        "train images": 64 * "a",
        "test images": 64 * "b",
    }
    return {"settings": settings, "names": {"train": [f"{i}.png" for i in range(14)]}, "versions": {"python": "3.11"}}


@pytest.fixture
def store(tmp_path, description, images):
    store = Store(tmp_path / "run")
    with store.locked():
        store.create(description, images)
    return store
