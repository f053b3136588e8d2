"""Contaminated tasks: a few of the train images are anomalous, and nobody knows which; some others may be labeled.

Source: Sohn, Li, Yoon, Jin, Pfister, "Learning and Evaluating Representations for Deep One-Class Classification",
ICLR 2021.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.tasks.task import Task
from detectors import Kind

CONTAMINATION_RATIOS = (0.0, 0.01, 0.025, 0.05, 0.1)  # of the train images; the source says "a small fraction"
LABELED = 50  # normal images; the source

AnyKind = TypeVar("AnyKind", bound=Kind)


def contaminated(task: Task, ratio: float, seed: int, pool: Tensor | None = None) -> Task:
    """The share ``ratio`` of the train images is anomalous and nobody knows which; their number stays the same.

    Normal train images are replaced by those of ``pool``, or by anomalies of the test set. Whatever the ratio, as many
    anomalies leave the test set as the largest of ``CONTAMINATION_RATIOS`` takes; a larger ratio takes those of a
    smaller one and more, and they replace the same images: only the ratio differs, and no test image is trained on.

    Args:
        task: the task.
        ratio: the share of anomalies among the train images.
        seed: of which images these are.
        pool: (p,C,H,W) anomalous images that are not tested on, such as the train images of other classes; the test
            set then stays whole. None: the anomalies of the test set.

    Raises:
        InputError: for a ratio above the largest, or so small that it means no image, where no anomaly would be left
            to test on, and for a pool of too few images.
    """
    if not 0 <= ratio <= CONTAMINATION_RATIOS[-1]:
        raise InputError(
            f"ratio={ratio}", f"must be from 0 to {CONTAMINATION_RATIOS[-1]}", f"try {CONTAMINATION_RATIOS[-1]}"
        )
    n = len(task.train)
    taken, reserved = round(ratio * n), round(CONTAMINATION_RATIOS[-1] * n)
    if ratio > 0 and taken == 0:
        raise InputError(f"ratio={ratio}", f"is less than one of {n} train images", f"use at least {1 / n:.2g}, or 0")
    source = generator(seed, "benchmarks", task.name, "contamination")
    name = f"{task.name}-contaminated-{ratio:g}"
    train = task.train.clone()
    if pool is not None:
        if len(pool) < reserved:
            raise InputError(f"a pool of {len(pool)} images", f"must have {reserved} at least", "give a larger one")
        aside = torch.randperm(len(pool), generator=source)[:taken]
        train[torch.randperm(n, generator=source)[:taken]] = pool[aside]
        return replace(task, name=name, train=train)
    anomalies = task.labels.nonzero()[:, 0]
    if len(anomalies) <= reserved:
        rule = f"has {len(anomalies)} anomalies, {reserved} are set aside and one must be left to test on"
        raise InputError(task.name, rule, "use a task with more anomalies")
    aside = anomalies[torch.randperm(len(anomalies), generator=source)[:reserved]]
    train[torch.randperm(n, generator=source)[:taken]] = task.test[aside[:taken]]
    is_left = torch.ones(len(task.test), dtype=torch.bool)
    is_left[aside] = False
    return replace(task.with_test(is_left.nonzero()[:, 0]), name=name, train=train)


@dataclass(frozen=True, eq=False)
class SemiSupervised:
    """A contaminated task, and normal images (n,C,H,W) known to be normal, which are in neither train nor test."""

    task: Task
    inliers: Tensor

    def fit(self, detector: AnyKind) -> AnyKind:
        """Train the encoder on the task's images, whatever they hold, and fit the scorer to the inliers alone."""
        return detector.train(self.task.train).fit_scorer(self.inliers)


def semi_supervised(
    task: Task, ratio: float, seed: int, n: int = LABELED, pool: Tensor | None = None
) -> SemiSupervised:
    """``n`` normal train images are labeled so and set aside for the scorer; the others are ``contaminated``.

    The labels are true, as the inliers are chosen before anomalies come in, and the same whatever the ratio. The test
    images are those of the contaminated task.

    Args:
        task: the task.
        ratio: the share of anomalies among the other train images.
        seed: of which images these are.
        n: how many normal train images are labeled.
        pool: where anomalies come from, as ``contaminated`` takes it.

    Raises:
        InputError: as ``contaminated`` does, for n below 2, and where fewer than 2 images would be left to train on.
    """
    if not 2 <= n <= len(task.train) - 2:
        raise InputError(f"n={n}", f"must be from 2 to {len(task.train) - 2}, all but 2 train images", f"try {LABELED}")
    order = torch.randperm(len(task.train), generator=generator(seed, "benchmarks", task.name, "inliers"))
    rest = replace(task, train=task.train[order[n:]])
    return SemiSupervised(contaminated(rest, ratio, seed, pool), task.train[order[:n]])
