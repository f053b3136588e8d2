"""The kinds that learn to recognise an image in another view."""

import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import augmentations
import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors import contrastive, get_preset
from detectors.contrastive import (
    Contrastive,
    ContrastiveDA,
    ContrastiveDASettings,
    ContrastiveSettings,
    Instances,
    info_nce,
    uniformity,
)
from detectors.views import apply_views, sample_views, symmetries
from selector.testing.detector import KindContract, stripes

SHORT = ContrastiveSettings("small", 32, (8,), steps=3, batch=4, outputs=8)
DA = ContrastiveDASettings("small", 32, (8,), steps=3, batch=4, outputs=8)
PLAIN = {"crop": 1.0, "hflip": False, "jitter": 0.0, "gray": 0.0}


class TestContrastive(KindContract):
    peak_tolerance = 8

    def make(self, *, seed=0, channels=1):
        return Contrastive(SHORT, seed=seed, device="cpu")

    def learn(self):
        return Contrastive(replace(SHORT, head=(32,), steps=40, batch=8, crop=0.8, jitter=0.2), device="cpu")

    def test_diagnostics_are_saved_and_shared(self, detector, tmp_path):
        assert detector.uniformity < 0
        assert detector.head_uniformity < 0
        again = detectors.load(detector.save(tmp_path / "detector"), device="cpu")
        other = detector.with_scorer("gaussian", stripes())
        for each in (again, other):
            assert (each.uniformity, each.head_uniformity) == (detector.uniformity, detector.head_uniformity)
        assert self.make().random_init(stripes()).uniformity is None


class TestContrastiveDA(TestContrastive):
    def make(self, *, seed=0, channels=1):
        return ContrastiveDA(DA, seed=seed, device="cpu")

    def learn(self):
        return ContrastiveDA(replace(DA, head=(32,), steps=40, batch=8, crop=0.8, jitter=0.2), device="cpu")


def test_the_loss_is_that_of_two_loops():
    source = generator(0)
    first, second = torch.randn(6, 5, generator=source).double(), torch.randn(6, 5, generator=source).double()
    total = 0.0
    for i in range(6):
        similar = [
            math.exp(torch.dot(first[i] / first[i].norm(), second[j] / second[j].norm()).item() / 0.2) for j in range(6)
        ]
        total -= math.log(similar[i] / sum(similar)) / 6
    assert info_nce(first, second, 0.2).item() == pytest.approx(total)
    assert info_nce(second, first, 0.2).item() != pytest.approx(total), "it has one side"
    assert info_nce(3 * first, second, 0.2).item() == pytest.approx(total)


def test_uniformity_is_that_of_two_loops():
    rows = torch.randn(7, 4, generator=generator(0)).double()
    units = rows / rows.norm(dim=1, keepdim=True)
    pairs = [math.exp(-2 * (units[i] - units[j]).square().sum().item()) for i in range(7) for j in range(7) if i != j]
    assert uniformity(rows) == pytest.approx(math.log(sum(pairs) / len(pairs)))
    assert uniformity(torch.ones(4, 3)) == pytest.approx(0)
    assert uniformity(torch.ones(1, 3)) is None
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(opposite) == pytest.approx(-8)


def shown(detector, images, monkeypatch):
    """The batches of a training and what it compared them by."""
    batches = []
    learn = contrastive.optimize

    def record(model, batch_of, loss_of, settings, **arguments):
        def recorded(step):
            batch, target = batch_of(step)
            batches.append(batch)
            return batch, target

        return learn(model, recorded, loss_of, settings, **arguments)

    monkeypatch.setattr(contrastive, "optimize", record)
    detector.train(images)
    return batches


def test_a_step_sees_two_views_of_each_image(monkeypatch):
    images = stripes(12)
    for batch in shown(Contrastive(replace(SHORT, **PLAIN), device="cpu"), images, monkeypatch):
        first, second = batch.chunk(2)
        assert torch.equal(first, second)
        assert all((image == images).flatten(1).all(1).any() for image in first)
    for batch in shown(Contrastive(replace(SHORT, jitter=0.0), device="cpu"), images, monkeypatch):
        first, second = batch.chunk(2)
        assert (first != second).flatten(1).any(1).all()


def turned(images, k):
    result = torch.rot90(images, k // 2, (2, 3))
    return result.flip(3) if k % 2 else result


@pytest.mark.parametrize("instances", contrastive.INSTANCES)
def test_turned_copies_are_instances_of_their_own(instances, monkeypatch):
    images = torch.rand(6, 1, 8, 8, generator=generator(0))
    steps = 3 * len(contrastive.INSTANCES[instances])
    settings = replace(DA, **PLAIN, image_size=8, instances=instances, batch=4, steps=steps)
    batches = shown(ContrastiveDA(settings, device="cpu"), images, monkeypatch)
    everything = torch.cat([turned(images, k) for k in contrastive.INSTANCES[instances]])
    seen = []
    for batch in batches:
        first, second = batch.chunk(2)
        torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
        seen += [(image - everything).abs().amax((1, 2, 3)).argmin().item() for image in first]
        assert len(set(seen[-4:])) == 4 or len(seen) % len(everything), "an image is its own negative"
    counts = [seen.count(i) for i in range(len(everything))]
    assert counts == [2] * len(everything), "every instance of every image equally often"


def test_copies_by_an_augmentation_are_drawn_once(monkeypatch):
    images = torch.rand(4, 1, 16, 16, generator=generator(0))
    chosen = (("angle", (20.0, 70.0)), ("step", 0.0))
    settings = replace(
        DA, **PLAIN, image_size=16, instances="rotation", copies=2, hyperparameters=chosen, batch=4, steps=12
    )
    batches = shown(ContrastiveDA(settings, device="cpu"), images, monkeypatch)
    seen = torch.cat([batch.chunk(2)[0] for batch in batches]).flatten(1)
    assert len({tuple(row.tolist()) for row in seen.round(decimals=4)}) == 12
    plain = torch.isclose(seen[:, None], images.flatten(1)[None], atol=1e-6).all(2).any(1)
    assert plain.sum() == 16, "each image as often as each of its copies"


def test_an_instance_is_that_of_its_image():
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 4, 4)
    instances = Instances(images, turns=symmetries()[[0, 2, 4, 6]].float())
    batch, turns = instances.take(torch.tensor([0, 4, 5, 19]))
    assert instances.count == 4
    assert batch[:, 0, 0, 0].tolist() == [0, 4, 0, 4]
    assert torch.equal(turns, symmetries()[[0, 0, 2, 6]].float())
    copies = Instances(images, change=lambda batch, rows: batch + 100 + rows.view(-1, 1, 1, 1), count=10)
    assert copies.count == 3
    assert copies.take(torch.tensor([3, 5, 14]))[0][:, 0, 0, 0].tolist() == [3, 100, 113]


@pytest.mark.parametrize("instances", [*contrastive.INSTANCES, "rotation"])
def test_pseudo_anomalies_are_the_other_instances(instances):
    detector = ContrastiveDA(replace(DA, hflip=False, instances=instances), device="cpu")
    images = torch.rand(40, 3, 8, 8, generator=generator(0))
    anomalies = detector.pseudo_anomalies(images, generator(1))
    kinds = [k for k in contrastive.INSTANCES.get(instances, (2, 4, 6)) if k]
    possible = torch.stack([turned(images, k) for k in kinds])
    matches = (possible - anomalies).abs().amax((2, 3, 4)) < 1e-5
    assert matches.any(0).all()
    assert matches.any(1).all(), "each of them"
    assert (anomalies != images).flatten(1).any(1).all()
    wide = torch.rand(5, 1, 4, 8, generator=generator(0))
    assert detector.pseudo_anomalies(wide, generator(1)).shape == wide.shape


def test_uniformity_is_lower_where_negatives_are_stronger():
    """What the loss asks for: outputs that spread."""
    images = nn.functional.interpolate(torch.rand(32, 1, 3, 3, generator=generator(0)), 32, mode="bilinear")
    settings = replace(SHORT, head=(32,), batch=16, learning_rate=0.03, crop=0.8, jitter=0.1)
    brief, longer = (Contrastive(replace(settings, steps=steps), device="cpu").train(images) for steps in (1, 60))
    assert longer.head_uniformity < brief.head_uniformity


def test_paper_is_the_published_training():
    common = {
        "encoder": "resnet18",
        "image_size": 256,
        "head": (512,) * 8,
        "batch": 32,
        "learning_rate": 0.01,
        "momentum": 0.9,
        "weight_decay": 3e-4,
        "crop": 0.5,
        "hflip": True,
        "jitter": 0.4,
        "gray": 0.2,
        "temperature": 0.2,
        "outputs": 128,
    }
    paper = get_preset("paper")
    # 2048 passes over 5,000 images, the last batch of each dropped; over 20,000 with their turns.
    assert Contrastive.settings_for(paper) == ContrastiveSettings(steps=2048 * 156, **common)
    expected = ContrastiveDASettings(steps=2048 * 4 * 156, instances="rotations", **common)
    assert ContrastiveDA.settings_for(paper) == expected
    head = Contrastive(Contrastive.settings_for(paper), device="cpu").build_head()
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(512, 512)] * 8 + [(512, 128)]
    assert all(layer.bias is None for layer in linear)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instances": "rotatoins"}, "did you mean rotations"),
        ({"instances": "hflip"}, "hflip=True.*set hflip=False"),
        ({"instances": "first_3"}, "hflip=True.*set hflip=False"),
        ({"instances": "rotation", "hyperparameters": (("angel", 3),)}, "angel"),
        ({"hyperparameters": (("angle", 3),)}, "leave them out"),
        ({"copies": 0}, "copies"),
        ({"temperature": 0}, "temperature"),
        ({"outputs": 0}, "outputs"),
        ({"batch": 1}, "batch"),
    ],
    ids=str,
)
def test_refuses_what_cannot_be_trained(change, message):
    with pytest.raises(InputError, match=message):
        replace(DA, **change)


def test_turns_need_square_images():
    images = torch.rand(8, 1, 16, 24)
    with pytest.raises(InputError, match=r"16x24.*square"):
        ContrastiveDA(DA, device="cpu").train(images)
    ContrastiveDA(replace(DA, instances="vflip"), device="cpu").train(images)
    Contrastive(SHORT, device="cpu").train(images)


def test_takes_no_augmentation_and_what_is_plain_has_no_pseudo_anomalies():
    assert not Contrastive.has_pseudo_anomalies()
    assert ContrastiveDA.has_pseudo_anomalies()
    with pytest.raises(InputError, match="takes no augmentation"):
        Contrastive(SHORT, augmentations.make("cutout"))


def test_views_of_a_turned_instance_are_those_of_the_turned_image():
    images = torch.rand(3, 1, 12, 12, generator=generator(0))
    strength = replace(DA, jitter=0.3)
    draws = sample_views(3, strength, (12, 12), generator(1))
    turns = symmetries()[[2, 4, 6]].float()
    at_once = apply_views(images, draws, strength, turns)
    before = torch.stack([torch.rot90(image, k, (1, 2)) for k, image in enumerate(images, 1)])
    torch.testing.assert_close(at_once, apply_views(before, draws, strength), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["rotation", "contrastive", "contrastive_da", "autoencoder"])
def test_no_step_waits_for_the_device(kind, monkeypatch):
    """A fake tensor has no values, so that whatever reads one back on the host raises."""
    kind = detectors.get(kind)
    steps = []

    def record(model, batch_of, loss_of, settings, **arguments):
        for step in range(3):
            batch, target = batch_of(step)
            steps.append((batch.device.type, loss_of(model(batch).float(), target).shape))

    monkeypatch.setattr(sys.modules[kind.__module__], "optimize", record)
    augmentation = augmentations.make("cutpaste") if kind.uses_augmentation else None
    detector = kind(replace(kind.settings_for(get_preset("tiny")), steps=3), augmentation, device="cpu")
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.empty(24, 3, 32, 32, device="cuda")
        with torch.device("cuda"):
            encoder = detector.build_encoder(3)
            head = nn.Identity() if kind.name == "autoencoder" else detector.build_head()
        if kind.name == "autoencoder":
            detector._learn(encoder, images, None)
        else:
            detector.learn(nn.Sequential(encoder, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head), images, None)
    assert steps == [("cuda", torch.Size([]))] * 3
