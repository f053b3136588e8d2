"""Anomalies among the train images: metrics of a detector by the share of them, as a Markdown table.

ssad benchmark study contamination elpv-mono --seed 0 --seed 1

The detector is trained with CutPaste at its published ranges: nothing here is chosen with labels. Beside the
contaminated task, its scorer is also fitted to a few images that are known to be normal.
"""

from dataclasses import replace
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.progress import track
from torch import Tensor

import augmentations
from benchmarks.datasets import load
from benchmarks.evaluation.metrics import image_metrics
from benchmarks.leaderboard.markdown import print_table
from benchmarks.tasks.contamination import CONTAMINATION_RATIOS, contaminated, semi_supervised
from benchmarks.tasks.task import Task
from detectors import Classifier, get_preset


def scores_of(task: Task, ratio: float, seed: int, settings: str = "quick") -> dict[str, tuple[Task, Tensor]]:
    """By protocol, the contaminated task and the scores (k,) of its test images."""

    def detector() -> Classifier:
        chosen = replace(get_preset(settings), image_size=task.train.shape[-1])
        augmentation = augmentations.make("cutpaste")
        return Classifier(Classifier.settings_for(chosen), augmentation, seed=seed, device="cpu")

    unlabeled, labeled = contaminated(task, ratio, seed), semi_supervised(task, ratio, seed)
    return {
        "unlabeled": (unlabeled, detector().fit(unlabeled.train).score(unlabeled.test)),
        "semi-supervised": (labeled.task, labeled.fit(detector()).score(labeled.task.test)),
    }


def contamination(
    name: Annotated[str, typer.Argument(help="A task's name.")] = "elpv-mono",
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable. [default: 0]")] = None,
    settings: Annotated[
        str, typer.Option("--preset", help="Preset of the detector: quick, standard or paper.")
    ] = "quick",
) -> None:
    """Print image metrics by the share of anomalies among the train images.

    Example: ssad benchmark study contamination elpv-mono --seed 0 --seed 1
    """
    task = load(name)
    rows = []
    for ratio in track(CONTAMINATION_RATIOS, console=Console(stderr=True)):
        for s in seed or [0]:
            for protocol, (part, scores) in scores_of(task, ratio, s, settings).items():
                values = {key: f"{value:.3f}" for key, value in image_metrics(scores, part.labels).items()}
                rows.append({"protocol": protocol, "anomalous": f"{ratio:.1%}", "seed": f"{s}"} | values)
    print_table(pd.DataFrame(rows))
