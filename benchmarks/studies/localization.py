"""Where the defects are: score maps against masks on generated defects, beside baselines, as a Markdown table.

ssad benchmark study localization elpv-mono-generated --seed 0 --seed 1

The detectors are trained with CutPaste at its published ranges: nothing here is chosen with labels. The patch
detector may select a poor density without training, too; the baseline by location shows the encoder alone.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import pandas as pd
import torch
import typer
from rich.console import Console
from rich.progress import track
from torch import Tensor

import augmentations
from benchmarks.datasets import load
from benchmarks.evaluation.metrics import LocalizationMetrics
from benchmarks.leaderboard.markdown import print_table
from benchmarks.tasks.task import Task
from detectors import Classifier, PatchClassifier, get_preset
from detectors.patch_density import PER_LOCATION
from detectors.scoring import upsample
from selector.execution.threads import one_thread

IMAGE_SIZE = 128
LEAST_DEVIATION = 1e-3  # of a pixel over the train images: what never varies must not divide by 0
PIXEL_CELL = 8  # px: raw-pixel maps are averaged and smoothed at the spacing of the image-level detector's locations


def pixel_distance(task: Task) -> Tensor:
    """(k,H,W) maps of raw pixels: how many standard deviations each lies from its mean over the train images."""
    mean, deviation = task.train.mean(0), task.train.std(0).clamp(min=LEAST_DEVIATION)
    distance = ((task.test - mean) / deviation).abs().amax(1)
    cells = torch.nn.functional.avg_pool2d(distance[:, None], PIXEL_CELL)[:, 0]
    return upsample(cells, (distance.shape[1], distance.shape[2]))


def maps_of(task: Task, seed: int) -> dict[str, Callable[[], Tensor]]:
    """By name, functions that make the (k,H,W) maps: of the detectors, of the same untrained, and of raw pixels."""
    settings = replace(get_preset("quick"), image_size=task.train.shape[-1])
    augmentation = augmentations.make("cutpaste")

    def detector_map(kind: type[Classifier], trained: bool) -> Tensor:
        detector = kind(kind.settings_for(settings), augmentation, seed=seed, device="cpu")
        prepare = detector.train if trained else detector.random_init
        return prepare(task.train).fit_scorer(task.train).score_map(task.test)

    def untrained_by_location() -> Tensor:
        detector = PatchClassifier(PatchClassifier.settings_for(settings), augmentation, seed=seed, device="cpu")
        detector.random_init(task.train).fit_scorer(task.train, density=PER_LOCATION)
        return detector.score_map(task.test)

    return {
        "patch": lambda: detector_map(PatchClassifier, True),
        "patch, untrained": lambda: detector_map(PatchClassifier, False),
        "patch, untrained, by location": untrained_by_location,
        "image-level": lambda: detector_map(Classifier, True),
        "image-level, untrained": lambda: detector_map(Classifier, False),
        "raw pixels": lambda: pixel_distance(task),
    }


def localization(
    name: Annotated[list[str], typer.Argument(help="Tasks with masks.")],
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable. [default: 0]")] = None,
) -> None:
    """Print pixel AUROC and AUPRO of every kind of score map, over all defects.

    Example: ssad benchmark study localization elpv-mono-generated --seed 0 --seed 1
    """
    rows = []
    for task_name in track(name, console=Console(stderr=True)):
        task = load(task_name, image_size=IMAGE_SIZE)
        assert task.masks is not None
        for s in seed or [0]:
            for kind, make in maps_of(task, s).items():
                with one_thread():
                    metrics = LocalizationMetrics()
                    metrics.update(make().numpy(), task.masks.numpy())
                values = (f"{value:.3f}" for value in metrics.compute().values())
                rows.append((task_name, f"{s}", kind, *values))
    print_table(pd.DataFrame(rows, columns=["task", "seed", "map", "pixel AUROC", "AUPRO"]))
