"""The loop in which a head on frozen features learns to distinguish normal from changed ones."""

import math
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from augmentations import Augmentation
from augmentations.randomness import generator
from detectors.base import Progress
from detectors.training import PROGRESS_REPORTS, TrainingDivergedError


class HeadSchedule(Protocol):
    """What of a kind's settings this loop reads."""

    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def noise(self) -> float: ...


def train_head(
    head: nn.Module,
    normal: Tensor,
    changed: list[Tensor] | Augmentation,
    settings: HeadSchedule,
    *,
    seed: int,
    on_progress: Progress | None = None,
) -> Tensor:
    """Train a head in place, by Adam.

    Every random number is drawn on the CPU, so that all devices see one stream.

    Args:
        head: features to hidden features, and by ``logits`` those to the logits of classes.
        normal: (n,d,h,w) standardised features of normal images; class 0.
        changed: features (m,d,h,w) of each class of changed images, or what changes locations of features; then
            the classes are those of locations: as they were, or changed.
        settings: the schedule.
        seed: of everything random.
        on_progress: called with the step and its loss now and then.
    Returns:
        The loss of every step (steps,), on the CPU.
    Raises:
        TrainingDivergedError: when the loss, or a weight at the end, is not finite.
    """
    device = normal.device
    optimizer = torch.optim.Adam(head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    source = generator(seed, "train", "head")
    losses = torch.zeros(settings.steps, device=device)
    reports = min(PROGRESS_REPORTS, settings.steps)
    head.train()
    for start, stop in pairwise([settings.steps * i // reports for i in range(reports + 1)]):
        for step in range(start, stop):
            clean = _some(normal, settings.batch, source)
            if isinstance(changed, Augmentation):
                features, labels = _changed_locations(clean, changed, source)
            else:
                features = torch.cat([clean, *(_some(each, settings.batch, source) for each in changed)])
                labels = torch.arange(1 + len(changed), device=device).repeat_interleave(settings.batch)
                if settings.noise:
                    noise = torch.randn(features.shape, generator=source).to(device)
                    features = features.add_(noise, alpha=settings.noise)
            logits = head.logits(head(features))  # type: ignore[operator]
            loss = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[step] = loss.detach()
        latest = losses[start:stop].mean().item()
        if not math.isfinite(latest):
            raise _diverged(f"the loss was {latest} between steps {start} and {stop}", settings)
        if on_progress is not None:
            on_progress(stop, latest)
    if not all(torch.stack([value.isfinite().all() for value in head.state_dict().values()]).tolist()):
        raise _diverged("a weight is not finite after the last step", settings)
    return losses.cpu()


def _some(features: Tensor, n: int, source: torch.Generator) -> Tensor:
    return features[torch.randint(len(features), (n,), generator=source).to(features.device)]


def _changed_locations(clean: Tensor, augmentation: Augmentation, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Clean features and changed ones, and whether each location (2n,h,w) was changed."""
    with torch.no_grad():  # ranges may want gradients, a training does not
        drawn = augmentation.sample(len(clean), (clean.shape[2], clean.shape[3]), source)
        changed = augmentation.apply(clean, {name: value.to(clean.device) for name, value in drawn.items()})
    labels = (changed != clean).any(1).long()
    return torch.cat([clean, changed]), torch.cat([torch.zeros_like(labels), labels])


def _diverged(how: str, settings: HeadSchedule) -> TrainingDivergedError:
    return TrainingDivergedError(f"{how}; try a learning_rate below {settings.learning_rate:g}")
