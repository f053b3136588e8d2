"""The one training loop, and the task of classifiers: to distinguish normal images from their pseudo anomalies."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from augmentations import Augmentation, InputError
from augmentations.color import apply_jitter, sample_jitter
from augmentations.randomness import generator
from detectors.base import Progress
from detectors.devices import autocast

PROGRESS_REPORTS = 20  # per training; each one waits for the device, so they are few
BLOCK = 1024  # steps whose random numbers are drawn at once where a whole training's would take too much memory
Draws = dict[str, Tensor]


class Schedule(Protocol):
    """What of a kind's settings the loop reads."""

    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


class ClassifierSchedule(Schedule, Protocol):
    """What of a kind's settings the training of a classifier reads."""

    @property
    def momentum(self) -> float: ...
    @property
    def jitter(self) -> float: ...


class TrainingDivergedError(RuntimeError):
    """The loss or a weight became infinite or NaN."""


def sgd(
    model: nn.Module, settings: Any, rates: Sequence[tuple[nn.Module, float]] | None = None
) -> torch.optim.Optimizer:
    """SGD with the learning rate, momentum and weight decay of the settings, or a learning rate for each part."""
    parts = [{"params": list(part.parameters()), "lr": rate} for part, rate in rates or ()]
    is_on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    is_one_rate = len({part["lr"] for part in parts}) <= 1
    return torch.optim.SGD(
        model.parameters() if is_one_rate else parts,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=is_on_cpu or None,  # one pass over each weight, with the same bits, in a third of the time
    )


def adam(model: nn.Module, settings: Schedule) -> torch.optim.Optimizer:
    """Adam with the learning rate and weight decay of the settings."""
    return torch.optim.Adam(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)


def optimize(
    model: nn.Module,
    batch_of: Callable[[int], tuple[Tensor, Any]],
    loss_of: Callable[[Tensor, Any], Tensor],
    settings: Schedule,
    *,
    device: torch.device,
    optimizer: torch.optim.Optimizer,
    decays: bool = True,
    in_bf16: bool = True,
    on_progress: Progress | None = None,
) -> Tensor:
    """Train a model in place: the steps that every kind shares.

    Args:
        model: on the device; every step sees one batch, in one pass.
        batch_of: a step to its batch, on the device, and what the loss compares the model's outputs with.
        loss_of: the model's outputs, as float32, and what ``batch_of`` gave to the loss of a step. Neither may wait
            for the device.
        settings: the schedule.
        device: of the model and the batches.
        optimizer: of the model's parameters.
        decays: the learning rate follows one cosine to 0; else it stays.
        in_bf16: the model's passes are in bf16 where the device is faster so; else in float32.
        on_progress: called with the step and its loss now and then.
    Returns:
        The loss of every step (steps,), on the CPU.
    Raises:
        TrainingDivergedError: when the loss, or a weight at the end, is not finite.
    """
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps) if decays else None
    losses = torch.zeros(settings.steps, device=device)
    reports = min(PROGRESS_REPORTS, settings.steps)
    marks = [settings.steps * i // reports for i in range(reports + 1)]

    model.train()
    for start, stop in pairwise(marks):
        for step in range(start, stop):
            batch, target = batch_of(step)
            with autocast(device) if in_bf16 else nullcontext():
                outputs = model(batch)
            loss = loss_of(outputs.float(), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if cosine is not None:
                cosine.step()
            losses[step] = loss.detach()
        latest = losses[start:stop].mean().item()
        if not math.isfinite(latest):
            raise _diverged(f"the loss was {latest} between steps {start} and {stop}", settings)
        if on_progress is not None:
            on_progress(stop, latest)
    # The last step's weights, and running variances, that no loss has seen.
    if not all(torch.stack([value.isfinite().all() for value in model.state_dict().values()]).tolist()):
        raise _diverged("a weight is not finite after the last step", settings)
    return losses.cpu()


def train(
    model: nn.Module,
    images: Tensor,
    parts: tuple[Augmentation, ...],
    settings: ClassifierSchedule,
    *,
    crop_size: int | None = None,
    seed: int,
    optimizer: torch.optim.Optimizer | None = None,
    on_progress: Progress | None = None,
) -> Tensor:
    """Train a model in place to distinguish normal images from each class of pseudo anomalies.

    Class 0 is the normal images, class i the i-th part's pseudo anomalies of the same images. Every random number
    is drawn on the CPU before the first step, so that no step waits for the host and all devices see one stream.
    SGD, one cosine to 0 (Li et al., CVPR 2021, A.1).

    Args:
        model: images to the logits of 1 + len(parts) classes.
        images: (N,C,H,W) normal images, on the device of the model.
        parts: what makes the pseudo anomalies of each class.
        settings: the schedule.
        crop_size: side in pixels of random square crops, taken before they are augmented; None: whole images.
        seed: of everything random.
        optimizer: of the model's parameters; None: ``sgd``.
        on_progress: called with the step and its loss now and then.
    Returns:
        The loss of every step (steps,), on the CPU.
    Raises:
        TrainingDivergedError: when the loss, or a weight at the end, is not finite.
        InputError: for images smaller than a crop.
    """
    device = images.device
    classes = 1 + len(parts)
    images = images.contiguous(memory_format=torch.channels_last)
    height, width = (crop_size, crop_size) if crop_size else images.shape[2:]
    corners = _corners(images, settings, crop_size, seed)
    order = epochs(len(images), settings, seed).to(device)
    draws = [
        _sample(part, (height, width), settings, generator(seed, "train", i), device) for i, part in enumerate(parts)
    ]
    jitter = _jitter(classes, settings, generator(seed, "train", "jitter"), device)
    labels = torch.arange(classes, device=device).repeat_interleave(settings.batch)

    def batch_of(step: int) -> tuple[Tensor, Tensor]:
        clean = crop(images, order[step], corners[step], crop_size) if crop_size else images[order[step]]
        drawn = [part.apply(clean, _at(draw, step, settings.batch)) for part, draw in zip(parts, draws, strict=True)]
        batch = torch.cat([clean, *drawn])
        if jitter is not None:
            batch = apply_jitter(batch, _at(jitter, step, len(batch)))
        return batch, labels

    return optimize(
        model,
        batch_of,
        nn.functional.cross_entropy,
        settings,
        device=device,
        optimizer=optimizer or sgd(model, settings),
        on_progress=on_progress,
    )


class Drawn:
    """The random numbers of a training: drawn on the CPU, a block of steps at once, before the first of them.

    What a step gets does not depend on how many follow it.
    """

    def __init__(self, sample: Callable[[int], Draws], per_step: int, steps: int, device: torch.device) -> None:
        """``sample``: a number of draws to them, by name; a step gets ``per_step`` of them."""
        self.sample, self.per_step, self.steps, self.device = sample, per_step, steps, device
        self.block = -1
        self.draws: Draws = {}

    def at(self, step: int) -> Draws:
        """The draws of a step; steps come in order."""
        block, place = divmod(step, BLOCK)
        if block != self.block:
            steps = min(BLOCK, self.steps - block * BLOCK)
            drawn = self.sample(steps * self.per_step)
            self.draws = {name: value.to(self.device) for name, value in drawn.items()}
            self.block = block
        return _at(self.draws, place, self.per_step)


def _diverged(how: str, settings: Schedule) -> TrainingDivergedError:
    return TrainingDivergedError(f"{how}; try a learning_rate below {settings.learning_rate:g}")


def epochs(n: int, settings: Schedule, seed: int) -> Tensor:
    """(steps, batch) image indices: shuffled passes over all images, one after another."""
    source = generator(seed, "train", "order")
    needed = settings.steps * settings.batch
    passes = [torch.randperm(n, generator=source) for _ in range(-(-needed // n))]
    return torch.cat(passes)[:needed].view(settings.steps, settings.batch)


def crop(images: Tensor, which: Tensor, corners: Tensor, side: int) -> Tensor:
    """(M,C,side,side) crops of (N,C,H,W) images: of image ``which`` (M,), with top left ``corners`` (M,2).

    On the images' device, without a wait for the host.
    """
    image, rows, columns = windows(which, corners, side)
    return images.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 3, 1, 2)


def windows(which: Tensor, corners: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image (M,1,1), row (M,side,1) and column (M,1,side) of every pixel of square windows, to index with."""
    reach = torch.arange(side, device=corners.device)
    rows, columns = corners[:, 0, None] + reach, corners[:, 1, None] + reach
    return which[:, None, None], rows[:, :, None], columns[:, None, :]


def random_corners(n: int, size: tuple[int, int], side: int, source: torch.Generator) -> Tensor:
    """(n,2) top left corners of windows, every place in an image of ``size`` (height, width) equally likely.

    Raises InputError when the window is larger than the image.
    """
    if side > min(size):
        rule = f"must fit in the {size[0]}x{size[1]} px of the images"
        raise InputError(f"patch={side}", rule, "choose a smaller patch or larger images")
    return torch.stack([torch.randint(length - side + 1, (n,), generator=source) for length in size], dim=1)


def _corners(images: Tensor, settings: ClassifierSchedule, crop_size: int | None, seed: int) -> Tensor:
    """(steps, batch, 2) corners of the crops; nothing where training sees whole images."""
    if not crop_size:
        return torch.empty(0)
    n, size = settings.steps * settings.batch, (images.shape[2], images.shape[3])
    corners = random_corners(n, size, crop_size, generator(seed, "train", "crops"))
    return corners.to(images.device).view(settings.steps, settings.batch, 2)


def _sample(
    part: Augmentation, size: tuple[int, int], settings: Schedule, source: torch.Generator, device: torch.device
) -> Draws:
    with torch.no_grad():  # ranges may want gradients, a training does not
        drawn = part.sample(settings.steps * settings.batch, size, source)
    return {name: value.to(device) for name, value in drawn.items()}


def _jitter(classes: int, settings: ClassifierSchedule, source: torch.Generator, device: torch.device) -> Draws | None:
    if settings.jitter == 0:
        return None
    n = settings.steps * settings.batch * classes
    drawn = sample_jitter(n, (settings.jitter, settings.jitter), source)
    return {name: value.to(device) for name, value in drawn.items()}


def _at(draws: Draws, step: int, n: int) -> Draws:
    return {name: value[step * n : (step + 1) * n] for name, value in draws.items()}
