"""The loop in which a head on frozen features learns to distinguish normal from changed ones."""

from typing import Protocol

import torch
from torch import Tensor, nn

from augmentations import Augmentation
from augmentations.randomness import generator
from detectors.base import Progress
from detectors.training import Schedule, adam, optimize


class HeadSchedule(Schedule, Protocol):
    """What of a kind's settings the training of a head reads."""

    @property
    def noise(self) -> float: ...


class Logits(nn.Module):
    """A head and its last layer as one model: features to the logits of classes, those last."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return self.head.logits(self.head(features))  # type: ignore[operator]


def train_head(
    head: nn.Module,
    normal: Tensor,
    changed: list[Tensor] | Augmentation,
    settings: HeadSchedule,
    *,
    seed: int,
    on_progress: Progress | None = None,
) -> Tensor:
    """Train a head in place, by Adam at one learning rate, in float32.

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
    source = generator(seed, "train", "head")

    def batch_of(step: int) -> tuple[Tensor, Tensor]:
        clean = _some(normal, settings.batch, source)
        if isinstance(changed, Augmentation):
            return _changed_locations(clean, changed, source)
        features = torch.cat([clean, *(_some(each, settings.batch, source) for each in changed)])
        labels = torch.arange(1 + len(changed), device=device).repeat_interleave(settings.batch)
        if settings.noise:
            noise = torch.randn(features.shape, generator=source).to(device)
            features = features.add_(noise, alpha=settings.noise)
        return features, labels

    def loss_of(logits: Tensor, classes: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits.flatten(0, -2), classes.flatten())

    model = Logits(head)
    return optimize(
        model,
        batch_of,
        loss_of,
        settings,
        device=device,
        optimizer=adam(model, settings),
        decays=False,
        in_bf16=False,
        on_progress=on_progress,
    )


def _some(features: Tensor, n: int, source: torch.Generator) -> Tensor:
    return features[torch.randint(len(features), (n,), generator=source).to(features.device)]


def _changed_locations(clean: Tensor, augmentation: Augmentation, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Clean features and changed ones, and whether each location (2n,h,w) was changed."""
    with torch.no_grad():  # ranges may want gradients, a training does not
        drawn = augmentation.sample(len(clean), (clean.shape[2], clean.shape[3]), source)
        changed = augmentation.apply(clean, {name: value.to(clean.device) for name, value in drawn.items()})
    labels = (changed != clean).any(1).long()
    return torch.cat([clean, changed]), torch.cat([torch.zeros_like(labels), labels])
