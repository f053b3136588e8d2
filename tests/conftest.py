"""What the tests of all packages share."""

from dataclasses import replace

import pytest
import torch

from detectors import presets


@pytest.fixture(scope="session", autouse=True)
def tiny():
    """A preset of a few steps on 32 px images, beside the real ones: a candidate in a second."""
    presets.PRESETS["tiny"] = replace(presets.PRESETS["quick"], steps=12, batch=8, image_size=32)
    yield "tiny"
    del presets.PRESETS["tiny"]


@pytest.fixture(scope="session")
def stripes():
    """Normal images (n,1,32,32): vertical stripes of varying phase and brightness, with a little noise."""

    def make(n: int, seed: int = 0) -> torch.Tensor:
        source = torch.Generator().manual_seed(seed)
        columns = torch.arange(32.0).expand(n, 1, 32, 32)
        phase = 6 * torch.rand(n, 1, 1, 1, generator=source)
        noise = 0.05 * torch.randn(n, 1, 32, 32, generator=source)
        return (0.5 + 0.3 * torch.sin(columns + phase) + noise).clamp(0, 1)

    return make


@pytest.fixture(scope="session")
def scratched(stripes):
    """Images like the normal ones with a bright blot in each."""

    def make(n: int, seed: int = 1) -> torch.Tensor:
        images = stripes(n, seed)
        images[:, :, 10:18, 12:20] = 1.0
        return images

    return make
