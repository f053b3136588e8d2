import dataclasses
import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import augmentations
from augmentations import Augmentation, InputError
from detectors import ClassifierSettings, training
from detectors.training import Drawn, TrainingDivergedError, optimize, sgd, train

SETTINGS = ClassifierSettings("small", 16, head=(), steps=24, batch=4)
CUTOUT = augmentations.make("cutout", area=(0.1, 0.3))
THREE_WAY = augmentations.make("cutpaste_3way", scar_area=(0.02, 0.05), scar_aspect=(2, 4))


class Spy(nn.Module):
    """The least model there is; it remembers what it was shown and answers for any number of classes."""

    def __init__(self, classes=2, pixels=16 * 16):
        super().__init__()
        self.linear = nn.Linear(pixels, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.batches = []

    def forward(self, images):
        self.batches.append(images.detach())
        return self.linear(images.flatten(1))


def bright(n=12, channels=1):
    source = torch.Generator().manual_seed(0)
    return 0.8 + 0.2 * torch.rand(n, channels, 16, 16, generator=source)


def numbered(n):
    """Images that can be distinguished by their brightness."""
    return ((torch.arange(n) + 1.0) / n).view(n, 1, 1, 1).expand(n, 1, 16, 16).contiguous()


@pytest.fixture
def optimizers(monkeypatch):
    """Every optimizer that is made."""
    made = []

    class Recorded(torch.optim.SGD):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.rates = []
            made.append(self)

        def step(self, *args, **kwargs):
            self.rates.append(self.param_groups[0]["lr"])
            return super().step(*args, **kwargs)

    monkeypatch.setattr(torch.optim, "SGD", Recorded)
    return made


def test_an_easy_task_is_learned():
    settings = dataclasses.replace(SETTINGS, steps=60)
    losses = train(Spy(), bright(), CUTOUT.parts, settings, seed=0)
    assert losses.shape == (60,)
    assert losses[0] == pytest.approx(math.log(2))
    assert losses[-10:].mean() < 0.5 * losses[:5].mean()
    assert losses.device.type == "cpu"
    assert not losses.requires_grad


@pytest.mark.parametrize(("augmentation", "classes"), [(CUTOUT, 2), (THREE_WAY, 3)], ids=["2-way", "3-way"])
def test_a_step_sees_normal_images_and_as_many_of_each_class(augmentation, classes, monkeypatch):
    seen = []
    compute = nn.functional.cross_entropy
    monkeypatch.setattr(
        nn.functional,
        "cross_entropy",
        lambda logits, labels: (seen.append((logits.shape, labels.tolist())), compute(logits, labels))[1],
    )
    model = Spy(classes)
    images = bright()
    losses = train(model, images, augmentation.parts, SETTINGS, seed=0)
    assert losses[0] == pytest.approx(math.log(classes))
    assert len(model.batches) == SETTINGS.steps
    for batch, (shape, labels) in zip(model.batches, seen, strict=True):
        assert batch.shape == (4 * classes, 1, 16, 16)
        assert shape == (4 * classes, classes)
        assert labels == [label for label in range(classes) for _ in range(4)]
        clean, *augmented = batch.split(4)
        assert all((image == images).flatten(1).all(1).any() for image in clean)
        for part in augmented:
            assert (part != clean).flatten(1).any(1).all()
            assert (part == clean).float().mean() > 0.3, "not made from these images"


@pytest.mark.parametrize("n", [3, 12, 20])
def test_every_image_is_seen_equally_often(n):
    model = Spy()
    images = numbered(n)
    train(model, images, CUTOUT.parts, SETTINGS, seed=0)
    shown = torch.cat([batch[:4, 0, 0, 0] for batch in model.batches])
    counts = (shown[:, None] == images[None, :, 0, 0, 0]).sum(0)
    assert counts.sum() == SETTINGS.steps * SETTINGS.batch
    assert counts.max() - counts.min() <= 1
    # Each pass over the images is in an order of its own.
    passes = [tuple(piece.tolist()) for piece in shown.split(n) if len(piece) == n]
    if n > 3:
        assert len(set(passes)) == len(passes) > 1


def test_all_is_drawn_before_the_first_step(monkeypatch):
    events = []
    sample, step, rand, randperm = Augmentation.sample, torch.optim.SGD.step, torch.rand, torch.randperm

    def record(name, function):
        return lambda *args, **kwargs: (events.append(name), function(*args, **kwargs))[1]

    monkeypatch.setattr(Augmentation, "sample", record("sample", sample))
    monkeypatch.setattr(torch.optim.SGD, "step", record("step", step))
    monkeypatch.setattr(torch, "rand", record("draw", rand))
    monkeypatch.setattr(torch, "randperm", record("draw", randperm))
    settings = dataclasses.replace(SETTINGS, jitter=0.1)
    train(Spy(3), bright(), THREE_WAY.parts, settings, seed=0)
    assert events.count("sample") == 2, "once for each part"
    assert events.count("step") == SETTINGS.steps
    assert "draw" in events
    first = events.index("step")
    assert set(events[first:]) == {"step"}


def test_optimizer_has_the_settings_and_its_cosine_ends_at_0(optimizers):
    settings = dataclasses.replace(SETTINGS, learning_rate=0.02, momentum=0.8, weight_decay=1e-4)
    train(Spy(), bright(), CUTOUT.parts, settings, seed=0)
    (optimizer,) = optimizers
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.8, 1e-4, False)
    expected = [0.02 * (1 + math.cos(math.pi * step / 24)) / 2 for step in range(24)]
    assert optimizer.rates == pytest.approx(expected)
    assert group["lr"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 19, 20, 21, 50])
def test_progress_is_reported_at_most_20_times(steps):
    reported = []
    settings = dataclasses.replace(SETTINGS, steps=steps)
    losses = train(
        Spy(), bright(), CUTOUT.parts, settings, seed=0, on_progress=lambda *progress: reported.append(progress)
    )
    at = [step for step, _ in reported]
    assert len(reported) == min(20, steps)
    assert at == sorted(set(at))
    assert at[-1] == steps
    starts = [0, *at[:-1]]
    for (step, loss), start in zip(reported, starts, strict=True):
        assert loss == pytest.approx(losses[start:step].mean().item())


CROPPED = dataclasses.replace(SETTINGS, image_size=20, steps=60)
CROP = 8


def placed(n=3, height=20, width=14):
    """Images whose every pixel has a value of its own."""
    return torch.linspace(0.1, 1, n * height * width).view(n, 1, height, width)


def corners_of(batch, images):
    """Image, row and column of the first pixel of every crop."""
    first = (batch[:, 0, :1, :1] - images.view(1, -1, 1)).abs().flatten(1).argmin(1)
    return torch.stack(torch.unravel_index(first, (len(images), *images.shape[2:])), 1).tolist()


def test_crops_are_taken_before_they_are_augmented():
    model, images = Spy(2, 64), placed()
    train(model, images, CUTOUT.parts, CROPPED, crop_size=CROP, seed=0)
    seen = []
    for batch in model.batches:
        clean, augmented = batch.split(4)
        seen += corners_of(clean, images)
        for (image, row, column), crop in zip(seen[-4:], clean, strict=True):
            assert torch.equal(crop, images[image, :, row : row + 8, column : column + 8])
        assert (clean != augmented).flatten(1).any(1).all(), "the augmentation missed a crop"
        assert (clean == augmented).float().mean() > 0.3, "not made from these crops"
    images_seen, rows, columns = zip(*seen, strict=True)
    assert set(rows) == set(range(20 - 8 + 1)), "every row, first and last"
    assert set(columns) == set(range(14 - 8 + 1))
    assert [images_seen.count(i) for i in range(3)] == [80, 80, 80]


def test_augmentations_are_drawn_for_the_size_of_a_crop(monkeypatch):
    sizes = []
    sample = Augmentation.sample
    monkeypatch.setattr(
        Augmentation, "sample", lambda self, n, size, source: (sizes.append(size), sample(self, n, size, source))[1]
    )
    train(Spy(2, 64), placed(), CUTOUT.parts, CROPPED, crop_size=CROP, seed=0)
    assert sizes == [(8, 8)]


def test_crops_follow_the_seed():
    seen = []
    for seed in (0, 0, 1):
        model = Spy(2, 64)
        train(model, placed(), CUTOUT.parts, CROPPED, crop_size=CROP, seed=seed)
        seen.append(torch.cat(model.batches))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_a_crop_of_the_whole_image_is_the_image():
    whole, cropped = Spy(), Spy()
    train(whole, bright(), CUTOUT.parts, SETTINGS, seed=0)
    train(cropped, bright(), CUTOUT.parts, SETTINGS, crop_size=16, seed=0)
    assert torch.equal(torch.cat(whole.batches), torch.cat(cropped.batches))


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(InputError, match=r"patch=8.*7x14 px.*larger images"):
        train(Spy(2, 64), placed(height=7), CUTOUT.parts, CROPPED, crop_size=CROP, seed=0)


@pytest.mark.parametrize("rate", [1e9, 1e30])
def test_divergence_is_reported(rate):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(576, 2)
    )
    settings = dataclasses.replace(SETTINGS, learning_rate=rate, steps=40)
    with pytest.raises(TrainingDivergedError, match="learning_rate below"):
        train(model, bright(), CUTOUT.parts, settings, seed=0)


def test_divergence_in_the_last_step_is_reported():
    settings = dataclasses.replace(SETTINGS, steps=1, learning_rate=1e38)
    model = Spy()
    with torch.no_grad():
        model.linear.bias[0] = 1e-3
    model.linear.weight.register_hook(lambda gradient: gradient * 1e38)
    with pytest.raises(TrainingDivergedError, match="weight"):
        train(model, bright(), CUTOUT.parts, settings, seed=0)


def test_what_the_losses_say_of_a_divergence():
    with pytest.raises(TrainingDivergedError, match="the loss was nan between steps 0 and"):
        train(_Broken(), bright(), CUTOUT.parts, SETTINGS, seed=0)


class _Broken(Spy):
    def forward(self, images):
        return super().forward(images) * torch.nan


def test_same_seed_same_losses():
    first, again, other = (train(Spy(), bright(), CUTOUT.parts, SETTINGS, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_steps_see_the_same_images_first():
    short, long = Spy(), Spy()
    train(short, bright(), CUTOUT.parts, SETTINGS, seed=0)
    train(long, bright(), CUTOUT.parts, dataclasses.replace(SETTINGS, steps=48), seed=0)
    for a, b in zip(short.batches, long.batches[:24], strict=True):
        assert torch.equal(a[:4], b[:4])


def test_jitter_reaches_every_image_of_a_step():
    plain, jittered = Spy(3, 3 * 256), Spy(3, 3 * 256)
    images = 0.5 * bright(channels=3)
    train(plain, images, THREE_WAY.parts, SETTINGS, seed=0)
    train(jittered, images, THREE_WAY.parts, dataclasses.replace(SETTINGS, jitter=0.1), seed=0)
    difference = torch.cat([a - b for a, b in zip(plain.batches, jittered.batches, strict=True)])
    assert (difference != 0).flatten(1).any(1).all()
    assert difference.abs().max() < 0.3
    moved = difference.mean((1, 2, 3))
    assert len(moved.unique()) > 0.9 * len(moved), "images share their jitter"


def test_ranges_that_want_gradients_can_be_trained_against():
    high = torch.tensor(0.25, requires_grad=True)
    wanting = augmentations.make("cutdiff", area=(0.1, high))
    fixed = augmentations.make("cutdiff", area=(0.1, 0.25))
    first, second = (train(Spy(), bright(), each.parts, SETTINGS, seed=0) for each in (wanting, fixed))
    torch.testing.assert_close(first, second)
    assert high.grad is None


def test_images_are_not_modified():
    images = bright()
    copy = images.clone()
    train(Spy(3), images, THREE_WAY.parts, dataclasses.replace(SETTINGS, jitter=0.1), seed=0)
    assert torch.equal(images, copy)


def test_batches_stay_channels_last():
    # Convolutions on a CPU take 1.4 times as long on the other format.
    model = Spy(3, 3 * 256)
    train(model, bright(channels=3), THREE_WAY.parts, SETTINGS, seed=0)
    small = Spy(3, 3 * 64)
    train(small, bright(channels=3), CUTOUT.parts, SETTINGS, crop_size=8, seed=0)
    assert all(batch.is_contiguous(memory_format=torch.channels_last) for batch in small.batches)
    assert all(batch.is_contiguous(memory_format=torch.channels_last) for batch in model.batches)


@pytest.mark.parametrize("name", augmentations.names("images"))
@pytest.mark.parametrize(("jitter", "patch"), [(0.0, 0), (0.1, 16)])
def test_no_step_waits_for_the_device(name, jitter, patch, monkeypatch):
    # A fake tensor has no values, so that whatever reads one back on the host raises. The progress report does,
    # by design: with one report a training, all steps must have run before the first read.
    monkeypatch.setattr(training, "PROGRESS_REPORTS", 1)
    monkeypatch.setattr(training, "autocast", lambda device: nullcontext())
    steps = []
    settings = dataclasses.replace(SETTINGS, steps=5, jitter=jitter)
    augmentation = augmentations.make(name)
    side = patch if patch else 32
    with FakeTensorMode():
        with torch.device("cuda"):
            model = Spy(1 + len(augmentation.parts), 3 * side * side)

        def backward(loss):
            # Autograd's engine wants a real device; the gradients' shapes are all that the optimizer sees.
            assert loss.device.type == "cuda"
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)

        step = torch.optim.SGD.step
        monkeypatch.setattr(Tensor, "backward", backward)
        monkeypatch.setattr(torch.optim.SGD, "step", lambda self: (step(self), steps.append(self))[0])
        with pytest.raises(DataDependentOutputException):
            train(
                model,
                torch.empty(6, 3, 32, 32, device="cuda"),
                augmentation.parts,
                settings,
                crop_size=patch or None,
                seed=0,
            )
    assert len(steps) == len(model.batches) == 5
    assert all(batch.device.type == "cuda" for batch in model.batches)
    assert {batch.shape[1:] for batch in model.batches} == {(3, side, side)}


def test_random_numbers_are_drawn_a_block_of_steps_at_once(monkeypatch):
    monkeypatch.setattr(training, "BLOCK", 8)
    sizes = []

    def draws(total):
        source = torch.Generator().manual_seed(0)
        return Drawn(
            lambda n: (sizes.append(n), {"x": torch.rand(n, generator=source)})[1], 3, total, torch.device("cpu")
        )

    short, long = draws(20), draws(24)
    first = torch.stack([short.at(step)["x"] for step in range(20)])
    assert sizes == [24, 24, 12]
    assert len(first.unique()) == 60
    second = torch.stack([long.at(step)["x"] for step in range(24)])
    assert torch.equal(first[:16], second[:16]), "however many steps follow"


def test_adam_has_the_settings():
    optimizer = training.adam(Spy(), dataclasses.replace(SETTINGS, learning_rate=0.02, weight_decay=1e-4))
    group = optimizer.param_groups[0]
    assert (type(optimizer), group["lr"], group["weight_decay"]) == (torch.optim.Adam, 0.02, 1e-4)


def test_a_task_of_its_own_is_trained_by_the_same_steps():
    """Another kind gives batches and a loss; the outputs reach it as float32."""
    model, images = Spy(), bright()
    dtypes = []

    def loss_of(outputs, target):
        dtypes.append(outputs.dtype)
        return ((outputs - target) ** 2).mean()

    losses = optimize(
        model,
        lambda step: (images[:4], torch.full((4, 2), float(step % 2))),
        loss_of,
        SETTINGS,
        device=torch.device("cpu"),
        optimizer=sgd(model, SETTINGS),
    )
    assert losses.shape == (24,)
    assert losses[0] == 0
    assert len(model.batches) == 24
    assert set(dtypes) == {torch.float32}
