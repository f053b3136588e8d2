"""Images that a detector can learn within a second, and a detector that has."""

import pytest
import torch

import augmentations
from augmentations.randomness import generator
from detectors import Classifier, ClassifierSettings


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _striped(n=48, channels=1, height=32, width=32, seed=0):
    """Grey stripes of random phase with a little noise, (n,channels,height,width)."""
    source = generator(seed, "stripes")
    phase = torch.rand(n, 1, 1, 1, generator=source) * 6.28
    column = torch.arange(width).view(1, 1, 1, -1)
    noise = 0.05 * torch.rand(n, channels, height, width, generator=source)
    return 0.55 + 0.2 * torch.sin(column / 1.5 + phase) + noise


@pytest.fixture(scope="session")
def striped():
    return _striped


@pytest.fixture(scope="session")
def brief():
    """The shortest training: its weights are all but random."""
    return ClassifierSettings("small", 32, head=(8,), steps=3, batch=4)


@pytest.fixture(scope="session")
def fitted():
    """A detector that has learned stripes. Not to be changed."""
    settings = ClassifierSettings("small", 32, head=(16,), steps=60, batch=8)
    augmentation = augmentations.make("cutout", area=(0.03, 0.15))
    return Classifier(settings, augmentation, seed=0, device="cpu").fit(_striped())


@pytest.fixture(scope="session")
def program():
    """A detector's program, traced; written as ``form`` ("onnx" or "torch") and read again, where one is named."""
    from selector.export.export import Calibrated, _traced
    from selector.export.formats import onnx_bytes, onnx_program, torch_bytes, torch_program

    def make(detector, images, form=None):
        traced = _traced(Calibrated(detector.module(), detector.score(images), 0.0), images)
        if form == "onnx":
            return onnx_program(onnx_bytes(traced))
        return torch_program(torch_bytes(traced)) if form == "torch" else traced.module()

    return make
