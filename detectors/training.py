"""The one training loop: learn to tell normal images from each class of pseudo anomalies."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from augmentations import Augmentation
from augmentations.color import apply_jitter, sample_jitter
from augmentations.randomness import generator
from detectors.devices import autocast
from detectors.settings import Settings

PROGRESS_REPORTS = 20  # a training; each one waits for the device, so they are few
Progress = Callable[[int, float], None]
Draws = dict[str, Tensor]


class TrainingDivergedError(RuntimeError):
    """The loss or a weight became infinite or NaN."""


def train(
    model: nn.Module,
    images: Tensor,
    parts: tuple[Augmentation, ...],
    settings: Settings,
    *,
    seed: int,
    on_progress: Progress | None = None,
) -> Tensor:
    """Train ``model`` on ``images`` (N,C,H,W), in place, and return the loss of every step (steps,), on the CPU.

    Class 0 is the normal images, class i the i-th part's pseudo anomalies of the same images. Every random number
    is drawn on the CPU before the first step, so that no step waits for the host and all devices see one stream.
    SGD, one cosine to 0 (Li et al., CVPR 2021, A.1). ``on_progress`` gets the step and its loss now and then.

    Raises TrainingDivergedError when the loss, or a weight at the end, is not finite.
    """
    device = images.device
    classes = 1 + len(parts)
    images = images.contiguous(memory_format=torch.channels_last)
    order = _epochs(len(images), settings, seed).to(device)
    draws = [_sample(part, images, settings, generator(seed, "train", i)) for i, part in enumerate(parts)]
    jitter = _jitter(classes, settings, generator(seed, "train", "jitter"), device)
    labels = torch.arange(classes, device=device).repeat_interleave(settings.batch)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    losses = torch.zeros(settings.steps, device=device)
    reports = min(PROGRESS_REPORTS, settings.steps)
    marks = [settings.steps * i // reports for i in range(reports + 1)]

    model.train()
    for start, stop in pairwise(marks):
        for step in range(start, stop):
            clean = images[order[step]]
            drawn = [
                part.apply(clean, _at(draw, step, settings.batch)) for part, draw in zip(parts, draws, strict=True)
            ]
            batch = torch.cat([clean, *drawn])
            if jitter is not None:
                batch = apply_jitter(batch, _at(jitter, step, len(batch)))
            with autocast(device):
                loss = nn.functional.cross_entropy(model(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
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


def _diverged(how: str, settings: Settings) -> TrainingDivergedError:
    return TrainingDivergedError(f"{how}; try a learning_rate below {settings.learning_rate:g}")


def _epochs(n: int, settings: Settings, seed: int) -> Tensor:
    """(steps, batch) image indices: shuffled passes over all images, one after another."""
    source = generator(seed, "train", "order")
    needed = settings.steps * settings.batch
    passes = [torch.randperm(n, generator=source) for _ in range(-(-needed // n))]
    return torch.cat(passes)[:needed].view(settings.steps, settings.batch)


def _sample(part: Augmentation, images: Tensor, settings: Settings, source: torch.Generator) -> Draws:
    height, width = images.shape[-2:]
    with torch.no_grad():  # ranges may want gradients, a training does not
        drawn = part.sample(settings.steps * settings.batch, (height, width), source)
    return {name: value.to(images.device) for name, value in drawn.items()}


def _jitter(classes: int, settings: Settings, source: torch.Generator, device: torch.device) -> Draws | None:
    if settings.jitter == 0:
        return None
    n = settings.steps * settings.batch * classes
    drawn = sample_jitter(n, (settings.jitter, settings.jitter), source)
    return {name: value.to(device) for name, value in drawn.items()}


def _at(draws: Draws, step: int, n: int) -> Draws:
    return {name: value[step * n : (step + 1) * n] for name, value in draws.items()}
