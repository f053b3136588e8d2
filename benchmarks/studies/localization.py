"""Where the defects are: score maps against masks on generated defects, beside their floors: a Markdown table.

python -m benchmarks.localization elpv-mono-generated --seed 0 --seed 1

The detectors are trained with CutPaste at its published ranges: nothing here is chosen by the labels. Untrained, the
patch detector may choose a poor layout, too; the floor by location shows what the encoder alone is worth.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
import typer
from torch import Tensor

import augmentations
import benchmarks
from benchmarks.evaluation.metrics import LocalizationMetrics
from benchmarks.tasks.task import Task
from detectors import Classifier, PatchClassifier, preset
from detectors.classifier import upsample
from detectors.patch_density import PER_LOCATION
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
    """By name, what makes the (k,H,W) maps: the detectors, the same untrained, and raw pixels."""
    settings = replace(preset("quick"), image_size=task.train.shape[-1])
    augmentation = augmentations.make("cutpaste")

    def made(kind: type[Classifier], trained: bool) -> Tensor:
        detector = kind(augmentation, settings, seed=seed, device="cpu")
        prepare = detector.train if trained else detector.leave_untrained
        return prepare(task.train).fit_scorer(task.train).score_map(task.test)

    def untrained_by_location() -> Tensor:
        detector = PatchClassifier(augmentation, settings, seed=seed, device="cpu").leave_untrained(task.train)
        return detector.fit_scorer(task.train, layout=PER_LOCATION).score_map(task.test)

    return {
        "patch": lambda: made(PatchClassifier, True),
        "patch, untrained": lambda: made(PatchClassifier, False),
        "patch, untrained, by location": untrained_by_location,
        "image-level": lambda: made(Classifier, True),
        "image-level, untrained": lambda: made(Classifier, False),
        "raw pixels": lambda: pixel_distance(task),
    }


def table(
    name: Annotated[list[str], typer.Argument(help="Tasks with masks.")],
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable. [default: 0]")] = None,
) -> None:
    """Print pixel AUROC and AUPRO of every map, over all defects."""
    print("| task | seed | map | pixel AUROC | AUPRO |")
    print("|---|---|---|---|---|")
    for task_name in name:
        task = benchmarks.load(task_name, image_size=IMAGE_SIZE)
        assert task.masks is not None
        for s in seed or [0]:
            for kind, make in maps_of(task, s).items():
                with one_thread():
                    metrics = LocalizationMetrics()
                    metrics.update(make().numpy(), task.masks.numpy())
                found = metrics.compute()
                row = f"| {task_name} | {s} | {kind} | {found['pixel_auroc']:.3f} | {found['aupro']:.3f} |"
                print(row, flush=True)


if __name__ == "__main__":
    typer.run(table)
