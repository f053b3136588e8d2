"""The kind that has no encoder."""

import pytest
import torch

import augmentations
import detectors
from augmentations import InputError
from detectors.pixels import Pixels, PixelsSettings
from detectors.scorers import Gaussian
from selector.testing.detector import KindContract, stripes


class TestPixels(KindContract):
    depends_on_seed = False

    def make(self, *, seed=0, channels=1):
        return Pixels(PixelsSettings(32, side=8), seed=seed, device="cpu")

    def learn(self):
        return self.make()


def test_scores_are_those_of_a_gaussian_of_averaged_pixels():
    train, test = stripes(40), stripes(5, seed=1)
    detector = Pixels(PixelsSettings(32), device="cpu").fit(train)
    averaged = (images.unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean((3, 5)).flatten(1) for images in (train, test))
    rows, new = averaged
    torch.testing.assert_close(detector.score(test), Gaussian().fit(rows).score(new), rtol=1e-4, atol=1e-4)


def test_it_has_no_pseudo_anomalies_and_takes_no_augmentation():
    assert not Pixels.has_pseudo_anomalies()
    with pytest.raises(InputError, match="takes no augmentation"):
        Pixels(PixelsSettings(32), augmentations.make("cutout"))


@pytest.mark.parametrize("setting", ["image_size", "side"])
def test_sizes_below_a_pixel_are_refused(setting):
    with pytest.raises(InputError, match=setting):
        PixelsSettings(**{"image_size": 32, setting: 0})


def test_it_is_registered():
    assert detectors.get("pixels") is Pixels
