"""The contract of every registered kind, and how images are read."""

import numpy as np
import pytest
import torch

import augmentations
import detectors
from augmentations import InputError
from detectors import ClassifierSettings
from detectors.images import as_float, as_images, pieces
from selector.testing.detector import KindContract


class TestClassifier(KindContract):
    def make(self, *, seed=0, channels=1):
        settings = ClassifierSettings("small", 32, head=(8,), steps=3, batch=4)
        return detectors.Classifier(settings, augmentations.make("cutpaste"), seed=seed, device="cpu")

    def learn(self):
        settings = ClassifierSettings("small", 32, head=(16,), steps=60, batch=8)
        augmentation = augmentations.make("cutout", area=(0.03, 0.15))
        return detectors.Classifier(settings, augmentation, device="cpu")


def test_every_registered_kind_keeps_the_contract():
    from tests.detectors import (
        test_autoencoder,
        test_contrastive,
        test_deep_svdd,
        test_discriminator,
        test_frozen,
        test_patch_classifier,
        test_pixels,
        test_rotation,
    )

    contracts = (
        TestClassifier,
        test_patch_classifier.TestPatchClassifier,
        test_rotation.TestRotation,
        test_contrastive.TestContrastive,
        test_contrastive.TestContrastiveDA,
        test_autoencoder.TestAutoencoder,
        test_autoencoder.TestPlainAutoencoder,
        test_deep_svdd.TestDeepSVDD,
        test_pixels.TestPixels,
        test_frozen.TestPooled,
        test_discriminator.TestOnImages,
    )
    covered = {contract().make().name for contract in contracts}
    assert covered == set(detectors.names())


def test_names_and_get():
    assert detectors.names() == list(detectors.KINDS)
    with pytest.raises(InputError, match="did you mean classifier"):
        detectors.get("clasifier")


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).random((2, 5, 7))[:, ::-1],
        np.broadcast_to(np.float32(0.5), (2, 5, 7)),
        np.full((2, 1, 5, 7), 255, np.uint8),
        [[[0.0, 1.0], [0.5, 0.25]]],
    ],
    ids=["backwards", "read-only", "uint8", "list"],
)
@pytest.mark.filterwarnings("error")
def test_as_images_takes_any_array(array):
    images = as_images(array)
    expected = np.asarray(array).reshape(images.shape)
    np.testing.assert_array_equal(images.numpy(), expected)


def test_as_images_shares_memory_where_it_can():
    array = np.zeros((2, 1, 4, 4), np.float32)
    assert as_images(array).data_ptr() == array.ctypes.data


@pytest.mark.parametrize("value", [-2.2e-8, 1 + 1e-7])
def test_what_rounding_makes_of_black_and_white_is_an_image(value):
    assert as_images(torch.full((1, 1, 4, 4), value)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("value", [-1e-3, 1.001, float("nan")])
def test_values_that_are_none_of_an_image_are_refused(value):
    with pytest.raises(InputError, match=r"must be finite and in \[0, 1\]"):
        as_images(torch.full((1, 1, 4, 4), value))


def test_as_float():
    assert as_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert as_float(torch.rand(3, dtype=torch.float64)).dtype == torch.float32


@pytest.mark.parametrize(("n", "size", "counts"), [(700, 64, [256, 256, 188]), (3, 2048, [1, 1, 1])])
def test_pieces_bound_memory(n, size, counts):
    images = torch.zeros(1, 1, 1, 1).expand(n, 1, size, size)
    assert [len(piece) for piece in pieces(images)] == counts
