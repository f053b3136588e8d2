"""Every criterion's choice on a task, beside the zoo's mean, best and worst: a Markdown table.

python -m benchmarks.criteria_table elpv-mono --seed 0 --seed 1 --seed 2 --out runs/
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

import benchmarks
from benchmarks.choices import aurocs, choices
from benchmarks.demo import GRIDS
from selector import select_best


def table(
    name: Annotated[str, typer.Argument(help="A task's name.")] = "elpv-mono",
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable. [default: 0]")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs; stopped ones go on there.")] = Path("runs"),
) -> None:
    """Print, for every criterion, the AUROC of the candidate it chooses."""
    task = benchmarks.load(name, image_size=64)
    columns = {}
    for s in seed or [0]:
        selection = select_best(
            task.train, task.test, augmentations=GRIDS, seed=s, out=out / f"{name}-{s}", progress=True
        )
        auroc = aurocs(selection, task)
        zoo = pd.Series({"zoo best": auroc.max(), "zoo mean": auroc.mean(), "zoo worst": auroc.min()})
        columns[f"seed {s}"] = pd.concat([zoo, choices(selection, task).auroc])
    frame = pd.DataFrame(columns)
    frame["mean"] = frame.mean(axis=1)
    header = ["chosen by", *frame.columns]
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row, values in frame.sort_values("mean", ascending=False).iterrows():
        print(f"| {row} | " + " | ".join(f"{value:.3f}" for value in values) + " |")


if __name__ == "__main__":
    typer.run(table)
