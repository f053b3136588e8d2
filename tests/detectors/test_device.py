"""Inference and augmentation on a device that this machine need not have.

Fake CUDA tensors have a device and a shape but no values: a tensor made on the wrong device, or one that the host
reads back, raises.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import augmentations
from augmentations.randomness import generator
from detectors.dense import center_per_image, dense_embeddings, dense_map, positions
from detectors.encoders import ENCODERS, pool
from detectors.scorers import Gaussian, GaussianPerLocation
from detectors.scoring import locations, upsample

SIZES = [(64, 64), (72, 96), (33, 20)]


def on_device(n=2, channels=3, size=(64, 64)):
    return torch.empty(n, channels, *size, device="cuda")


def gaussian(d):
    return Gaussian().remember(mean=torch.empty(d, device="cuda"), whitening=torch.empty(d, d, device="cuda"))


def test_a_read_back_would_be_seen():
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        on_device().sum().item()
    with FakeTensorMode(), pytest.raises(RuntimeError, match="device"):
        on_device() + torch.empty(2, 3, 64, 64)


@pytest.mark.parametrize("name", augmentations.names("images"))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(64, 64), (72, 96)], ids=str)
def test_augmentations(name, channels, size):
    augmentation = augmentations.make(name)
    parameters = augmentation.sample(2, size, generator(0))
    assert all(value.device.type == "cpu" for value in parameters.values())
    with FakeTensorMode() as mode:
        fake = {key: mode.from_tensor(value) for key, value in parameters.items()}
        after = augmentation.apply(on_device(2, channels, size), fake)
    assert (after.device.type, after.shape) == ("cuda", (2, channels, *size))


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_size", [64, 128])
def test_features_scores_and_maps(name, channels, image_size):
    d = ENCODERS[name].width
    with FakeTensorMode(), torch.no_grad():
        with torch.device("cuda"):
            encoder = ENCODERS[name].build(channels, image_size).eval()
        for size in SIZES:
            images = on_device(2, channels, size).contiguous(memory_format=torch.channels_last)
            features = encoder(images)
            embeddings = pool(features)
            scores = gaussian(d).score(embeddings)
            maps = upsample(gaussian(d).score(locations(features)), size)
            for tensor, shape in ((embeddings, (2, d)), (scores, (2,)), (maps, (2, *size))):
                assert tensor.device.type == "cuda"
                assert tensor.dtype == torch.float32
                assert tensor.shape == shape, size


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [(64, 64), (37, 50), (9, 20)], ids=str)
def test_patches_scores_and_maps(name, size):
    spec = ENCODERS[name]
    rows, columns = (len(positions(side, 16, 4)) for side in size)
    d = {"small": 128, "resnet18": 1024, "unpadded": 112}[name]
    with FakeTensorMode(), torch.no_grad():
        with torch.device("cuda"):
            encoder = spec.build(3, 16).eval()
            whitening = torch.empty(rows, columns, d, d)
            local = GaussianPerLocation().remember(mean=torch.empty(rows, columns, d), whitening=whitening)
        patches = center_per_image(dense_embeddings(encoder, on_device(2, 3, size), 16, 4, spec.dense_strides))
        maps = [dense_map(density.score(patches), 16, 4, size) for density in (gaussian(d), local)]
    assert patches.shape == (2, rows, columns, d)
    for tensor in maps:
        assert (tensor.device.type, tensor.dtype, tensor.shape) == ("cuda", torch.float32, (2, *size))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestCuda:
    def test_agrees_with_the_cpu(self, fitted, striped):
        moved = type(fitted).from_state(fitted.state(), torch.device("cuda"))
        images = striped(5, seed=1)
        for method in ("embed", "score", "score_map"):
            there, here = getattr(moved, method)(images), getattr(fitted, method)(images)
            torch.testing.assert_close(there, here, rtol=1e-2, atol=1e-3)

    def test_trains_to_the_same_bits_twice(self, fitted, striped):
        first, again = (
            type(fitted)(fitted.settings, fitted.augmentation, device="cuda").fit(striped()) for _ in range(2)
        )
        assert torch.equal(first.losses, again.losses)
        assert torch.equal(first.score(striped(5, seed=1)), again.score(striped(5, seed=1)))
