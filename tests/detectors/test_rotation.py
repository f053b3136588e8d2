"""The kind that learns quarter turns."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors import get_preset
from detectors.rotation import Rotation, RotationSettings, turned
from detectors.views import quarter_turns
from selector.testing.detector import KindContract, stripes

SHORT = RotationSettings("small", 32, (8,), steps=3, batch=4)


class TestRotation(KindContract):
    peak_tolerance = 8

    def make(self, *, seed=0, channels=1):
        return Rotation(SHORT, seed=seed, device="cpu")

    def learn(self):
        return Rotation(RotationSettings("small", 32, (16,), steps=40, batch=4, crop=0.9), device="cpu")


class TestRotationClassifier(TestRotation):
    """Its classifier's own score; maps are the scorer's."""

    def make(self, *, seed=0, channels=1):
        return Rotation(replace(SHORT, score="classifier"), seed=seed, device="cpu")

    def learn(self):
        settings = RotationSettings("small", 32, (), steps=40, batch=4, crop=0.9, score="classifier")
        return Rotation(settings, device="cpu")

    def test_a_defect_scores_higher(self, detector, few, defective):
        """Not the classifier's to see: stripes with a black square are as easily turned back."""
        assert detector.score(few).isfinite().all()

    def test_another_scorer_shares_the_training(self, detector, few):
        super().test_another_scorer_shares_the_training(detector, few)
        assert detector.with_scorer("gaussian", stripes()).proxy_accuracy == detector.proxy_accuracy


@pytest.fixture(scope="module")
def fitted():
    settings = RotationSettings("small", 32, (16,), steps=40, batch=8, crop=0.9, jitter=0, gray=0, score="classifier")
    return Rotation(settings, device="cpu").fit(stripes())


def test_the_classifiers_score_is_the_negative_log_of_the_product_of_its_probabilities(fitted):
    images, model = stripes(6, seed=1), fitted.encoder
    expected = []
    with torch.no_grad():
        for image in images:
            product = 1.0
            for k in range(4):
                pooled = model.body(torch.rot90(image[None], k, (2, 3))).mean((2, 3))
                product *= torch.softmax(model.head(pooled).double(), 1)[0, k].item()
            expected.append(-torch.tensor(product).log())
    torch.testing.assert_close(fitted.score(images), torch.stack(expected), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("k", range(-1, 6))
def test_quarter_turns_are_those_of_torch(k):
    images = torch.rand(2, 3, 5, 7)
    assert torch.equal(quarter_turns(images, k), torch.rot90(images, k, (2, 3)))


def test_a_step_sees_four_turns_of_each_image_and_their_labels(monkeypatch):
    seen = []
    compute = nn.functional.cross_entropy
    monkeypatch.setattr(
        nn.functional,
        "cross_entropy",
        lambda logits, labels: (seen.append(labels.tolist()), compute(logits, labels))[1],
    )
    Rotation(replace(SHORT, batch=2, crop=1, hflip=False), device="cpu").train(stripes(8))
    assert seen == [[0, 0, 1, 1, 2, 2, 3, 3]] * 3


def test_parts_of_a_batch_are_turned_each_by_its_own_angle():
    images = torch.rand(8, 1, 6, 6)
    batch = turned(images.chunk(4))
    for place, (image, result) in enumerate(zip(images, batch, strict=True)):
        assert torch.equal(result, torch.rot90(image, place // 2, (1, 2)))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_proxy_accuracy_says_whether_turns_can_be_seen(fitted, tmp_path):
    shade = torch.linspace(0, 0.5, 32).view(1, 1, 1, 32)
    telling = (0.5 * stripes(48) + shade).clamp(0, 1)
    settings = RotationSettings("small", 32, (), steps=80, batch=8, crop=0.9, hflip=False, learning_rate=0.03)
    learned = Rotation(settings, device="cpu").fit(telling)
    blind = Rotation(settings, device="cpu").fit(torch.rand(48, 1, 32, 32, generator=generator(0)))
    assert learned.proxy_accuracy > 0.8
    assert blind.proxy_accuracy < 0.6
    again = detectors.load(learned.save(tmp_path / "detector"))
    assert again.proxy_accuracy == learned.proxy_accuracy
    assert learned.random_init(telling).proxy_accuracy is None


def test_paper_is_the_published_training():
    assert Rotation.settings_for(get_preset("paper")) == RotationSettings(
        encoder="resnet18",
        image_size=256,
        head=(512,) * 7,
        steps=2048 * 78,  # 2048 passes over 5,000 images; the last batch of each is dropped
        batch=64,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=3e-4,
        crop=0.5,
        hflip=True,
        jitter=0.4,
        gray=0.2,
        score="scorer",
    )
    smaller = Rotation.settings_for(replace(get_preset("paper"), image_size=32))
    assert (smaller.steps, smaller.image_size) == (2048 * 78, 32)


def test_head_of_the_paper_and_none():
    paper = Rotation(Rotation.settings_for(get_preset("paper")), device="cpu").build_head()
    linear = [layer for layer in paper if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(512, 512)] * 8 + [(512, 4)]
    assert [layer.bias is not None for layer in linear] == [False] * 7 + [True, True]
    assert len(Rotation(replace(SHORT, head=()), device="cpu").build_head()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "resnet81"},
        {"image_size": 0},
        {"head": (64, 0)},
        {"steps": 0},
        {"batch": 1},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"weight_decay": -1e-5},
        {"crop": 0},
        {"crop": 1.1},
        {"jitter": 0.6},
        {"gray": -0.1},
        {"reduction": 0},
        {"score": "oracle"},
    ],
    ids=str,
)
def test_refuses_what_cannot_be_trained(change):
    with pytest.raises(InputError, match=next(iter(change))):
        replace(SHORT, **change)


def test_images_that_are_not_square_are_refused_before_training():
    with pytest.raises(InputError, match=r"32x40.*square"):
        Rotation(SHORT, device="cpu").train(torch.rand(8, 1, 32, 40))


def test_takes_no_augmentation():
    import augmentations

    with pytest.raises(InputError, match="takes no augmentation"):
        Rotation(SHORT, augmentations.make("cutout"))
