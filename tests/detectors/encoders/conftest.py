"""A cache of torch that holds what a test puts there, and a module as a user would write it."""

import pytest
import torch
import torchvision

MINE = """
import torch
from torch import nn


class Mine(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.second = nn.Conv2d(4, width, 3, 2, 1)

    def forward(self, images):
        fine = self.first(images)
        return {"fine": fine, "coarse": self.second(fine)}


class Branching(Mine):
    def forward(self, images):
        if images.sum() > 1e9:
            raise ValueError("never")
        return self.second(self.first(images))


class Flat(Mine):
    def forward(self, images):
        return images.flatten(1)


class Needy(Mine):
    def __init__(self, width):
        super().__init__(width)


class Restless(Mine):
    def __init__(self):
        super().__init__()
        import random

        nn.init.constant_(self.second.weight, random.random())
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder that torch's cache is in this test: empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def mine(tmp_path, monkeypatch, cache):
    """The name of a module with encoders of a user's own."""
    (tmp_path / "their_encoders.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "their_encoders"
    import sys

    sys.modules.pop("their_encoders", None)


@pytest.fixture(scope="session")
def resnet18_file(tmp_path_factory):
    """Weights of torchvision's ResNet-18 in a file: random ones, but nobody knows."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path
