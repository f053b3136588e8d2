"""A run that is trained once for all tests of the zoo."""

import shutil

import pytest
import torch

from selector.execution import Serial
from selector.zoo.prepare import prepare
from selector.zoo.store import Store
from selector.zoo.zoo import Zoo


@pytest.fixture(scope="session")
def finished(tmp_path_factory, candidates, images):
    """A store whose candidates are trained; to be copied, not changed."""
    store = Store(tmp_path_factory.mktemp("finished") / "run")
    augmentations = [candidate.training.make_augmentation() for candidate in candidates]
    with store.locked():
        prepare(store, {"settings": {"seed": 0}, "names": {}}, images, augmentations, seed=0)
        Zoo(store, candidates, torch.device("cpu")).train(Serial())
    return store


@pytest.fixture
def trained(finished, tmp_path):
    """A copy of it, to change."""
    return Store(shutil.copytree(finished.root, tmp_path / "trained"))
