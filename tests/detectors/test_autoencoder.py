"""The kind that gives back images."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import augmentations
import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors import autoencoder, get_preset
from detectors.autoencoder import Autoencoder, AutoencoderSettings, PlainAutoencoder
from selector.testing.detector import KindContract, stripes

SHORT = AutoencoderSettings(32, (4, 8), 8, steps=3, batch=4)
LONGER = AutoencoderSettings(32, (8, 16), 16, steps=80, batch=8, learning_rate=0.01)


class TestAutoencoder(KindContract):
    any_size = False

    def make(self, *, seed=0, channels=1):
        return Autoencoder(SHORT, augmentations.make("cutout"), seed=seed, device="cpu")

    def learn(self):
        return Autoencoder(LONGER, augmentations.make("cutout"), device="cpu")


class TestPlainAutoencoder(TestAutoencoder):
    def make(self, *, seed=0, channels=1):
        return PlainAutoencoder(SHORT, seed=seed, device="cpu")

    def learn(self):
        return PlainAutoencoder(LONGER, device="cpu")


class TestAutoencoderWithScorer(TestAutoencoder):
    def make(self, *, seed=0, channels=1):
        return Autoencoder(replace(SHORT, score="scorer"), augmentations.make("cutout"), seed=seed, device="cpu")

    def learn(self):
        return Autoencoder(replace(LONGER, score="scorer"), augmentations.make("cutout"), device="cpu")

    def test_a_defect_scores_higher(self, detector, few, defective):
        """What it learned not to code does not reach its code."""
        assert detector.score(defective).isfinite().all()


@pytest.fixture(scope="module")
def fitted():
    return Autoencoder(SHORT, augmentations.make("cutout"), device="cpu").fit(stripes(8))


def test_score_and_map_are_the_squared_error_of_the_image_given_back(fitted):
    images = stripes(4, seed=1)
    network = fitted.encoder
    with torch.no_grad():
        error = (network.decode(network.encode(images)) - images) ** 2
    torch.testing.assert_close(fitted.score(images), error.mean((1, 2, 3)))
    torch.testing.assert_close(fitted.score_map(images), error.mean(1))


@pytest.mark.parametrize("side", [2, 5, 17, 28, 32, 33])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 4), (1, 1), (3, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_given_back_at_its_size(side, kernel, stride, channels):
    settings = replace(SHORT, image_size=side, kernel=kernel, stride=stride, widths=(3, 3, 3))
    network = PlainAutoencoder(settings, device="cpu").build_encoder(channels).eval()
    images = torch.rand(2, channels, side, side)
    code = network(images)
    assert code.shape == (2, 8, 1, 1)
    result = network.decode(code.flatten(1))
    assert result.shape == images.shape
    assert 0 <= result.min() <= result.max() <= 1
    last = [layer for layer in network.decode if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.bias is not None for layer in last] == [False, False, True]


def shown(detector, images, monkeypatch):
    pairs = []
    learn = autoencoder.optimize

    def record(model, batch_of, *rest, **arguments):
        def recorded(step):
            pairs.append(batch_of(step))
            return pairs[-1]

        return learn(model, recorded, *rest, **arguments)

    monkeypatch.setattr(autoencoder, "optimize", record)
    detector.train(images)
    return pairs


@pytest.mark.parametrize(
    ("name", "share", "expected"), [("cutout", None, 0), ("rotation", None, 0.5), ("cutout", 0.25, 0.25)]
)
def test_it_learns_clean_images_from_augmented_ones(name, share, expected, monkeypatch):
    images = torch.rand(12, 1, 32, 32, generator=generator(0))
    settings = replace(SHORT, steps=50, batch=8, clean_share=share)
    augmentation = augmentations.make(name)
    pairs = shown(Autoencoder(settings, augmentation, device="cpu"), images, monkeypatch)
    unchanged = []
    for batch, clean in pairs:
        assert all((image == images).flatten(1).all(1).any() for image in clean)
        unchanged += (batch == clean).flatten(1).all(1).tolist()
    assert sum(unchanged) / len(unchanged) == pytest.approx(expected, abs=0.08)


def test_the_plain_one_sees_images_as_they_are(monkeypatch):
    for batch, clean in shown(PlainAutoencoder(SHORT, device="cpu"), stripes(8), monkeypatch):
        assert batch is clean
    assert not PlainAutoencoder.has_pseudo_anomalies()
    with pytest.raises(InputError, match="takes no augmentation"):
        PlainAutoencoder(SHORT, augmentations.make("cutout"))
    with pytest.raises(InputError, match="learns against an augmentation"):
        Autoencoder(SHORT)
    assert detectors.get("plain_autoencoder") is PlainAutoencoder


@pytest.mark.parametrize("method", ["embed", "score", "score_map", "score_and_map", "fit", "random_init"])
def test_other_sizes_are_refused(fitted, method):
    with pytest.raises(InputError, match=r"16x32 px.*32x32 px"):
        getattr(fitted, method)(torch.rand(2, 1, 16, 32))


def test_an_average_of_larger_images_is_what_it_gives_back():
    images = stripes(8)
    larger = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    plain = PlainAutoencoder(SHORT, device="cpu").fit(images)
    reduced = PlainAutoencoder(replace(SHORT, reduction=2), device="cpu").fit(larger)
    torch.testing.assert_close(reduced.score(larger), plain.score(images))
    assert reduced.score_map(larger).shape == (8, 64, 64)


def test_paper_is_the_published_training():
    paper = get_preset("paper")
    common = {"code": 256, "steps": 256 * 5, "batch": 1024, "learning_rate": 1e-3, "weight_decay": 0.0}
    assert Autoencoder.settings_for(paper) == AutoencoderSettings(256, (64, 128, 256), kernel=5, stride=4, **common)
    small = Autoencoder.settings_for(replace(paper, image_size=32))
    assert small == AutoencoderSettings(32, (64, 128, 256, 512), kernel=3, stride=2, **common)
    network = Autoencoder(small, augmentations.make("cutout"), device="cpu").build_encoder(3)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(4.16e6, rel=0.01)


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 1},
        {"widths": ()},
        {"widths": (8, 0)},
        {"code": 0},
        {"steps": 0},
        {"batch": 1},
        {"kernel": 4},
        {"stride": 4},
        {"learning_rate": float("inf")},
        {"weight_decay": -1.0},
        {"clean_share": 1.0},
        {"score": "oracle"},
        {"reduction": 0},
    ],
    ids=str,
)
def test_refuses_what_cannot_be_trained(change):
    with pytest.raises(InputError, match=next(iter(change))):
        replace(SHORT, **change)
