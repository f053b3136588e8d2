"""The realised false-alarm rate of a chosen detector against the promised one: a Markdown table.

python -m benchmarks.false_alarms elpv-mono --seed 0 --seed 1 --out runs/

Half of a task's normal test images take part in the selection, with all anomalies; the other half stays fresh. For each
half, 20 random divisions of it and the calibration images together into as many calibration and test images as there
were: the mean share of test images that are flagged, beside the band in which exact split-conformal has it.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

import benchmarks
from augmentations.randomness import generator
from benchmarks.demo import GRIDS
from benchmarks.metrics import false_alarm_band
from selector import select_best
from selector.decision import p_values

SPLITS = 20
RATES = (0.05, 0.1)


def realised(calibration: Tensor, normal: Tensor, rate: float, seed: int) -> float:
    """The share of normal images flagged, averaged over ``SPLITS`` divisions of both sets of scores together."""
    pool, source, shares = torch.cat([calibration, normal]), generator(seed, "false alarms"), []
    for _ in range(SPLITS):
        held, tested = pool[torch.randperm(len(pool), generator=source)].split([len(calibration), len(normal)])
        shares.append((p_values(held, tested) <= rate).double().mean().item())
    return sum(shares) / SPLITS


def table(
    name: Annotated[str, typer.Argument(help="A task's name.")] = "elpv-mono",
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable. [default: 0]")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs; stopped ones go on there.")] = Path("runs"),
) -> None:
    """Print the realised false-alarm rates, on fresh normal images and on those used in the selection."""
    task = benchmarks.load(name, image_size=64)
    print("| seed | normal images | promised | realised | 99% band |")
    print("|---|---|---|---|---|")
    for s in seed or [0]:
        normal = (task.labels == 0).nonzero()[:, 0]
        normal = normal[torch.randperm(len(normal), generator=generator(s, "fresh"))]
        fresh, used = normal.tensor_split(2)
        kept = torch.ones(len(task.test), dtype=torch.bool).index_fill(0, fresh, False)
        run = out / f"{name}-false-alarms-{s}"
        selection = select_best(task.train, task.test[kept], augmentations=GRIDS, seed=s, out=run, progress=True)
        calibration = selection.zoo.store.calibration(selection.best.id)["scores"]
        for kind, images in (("fresh", fresh), ("used in the selection", used)):
            scores = selection.detector.score(task.test[images])
            for rate in RATES:
                found = realised(calibration, scores, rate, s)
                low, high = false_alarm_band(len(calibration), len(scores), rate, splits=SPLITS)
                print(f"| {s} | {kind} | {rate:.2f} | {found:.3f} | {low:.3f} to {high:.3f} |", flush=True)


if __name__ == "__main__":
    typer.run(table)
