"""The demo: a selection on real solar cells, and its evaluation with labels afterwards."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from sklearn.metrics import roc_auc_score

import benchmarks
from benchmarks.tasks.task import Task
from selector import Selection, select_best
from selector.command import print_selection

PIXELS = 128  # along a side of a cell: what kinds on pretrained features see


def demo(
    out: Annotated[Path, typer.Option(help="Run folder; a stopped run is resumed.")] = Path("demo-run"),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    jobs: Annotated[int | None, typer.Option(help="Worker processes. [default: one per core]")] = None,
) -> None:
    """Select a detector for real solar cells (ELPV, monocrystalline) without labels, then evaluate it with labels."""
    task = benchmarks.load("elpv-mono", image_size=PIXELS)
    print(f"{task.name}: {len(task.train)} normal cells to learn from, {len(task.test)} unlabeled ones to select with")
    selection = select_best(task.train, task.test, seed=seed, jobs=jobs, out=out, progress=True)
    report = print_selection(selection)

    auroc = aurocs(selection, task)
    print()
    print("The choice is on disk. Its evaluation with labels, which were not used until now (test AUROC):")
    ensemble = roc_auc_score(task.labels, selection.detector.score(task.test))
    chosen = auroc.iloc[0]
    print(f"  recommended: {len(selection.members)} together {ensemble:.3f}   the first alone {chosen:.3f}")
    best = auroc.groupby(kinds(selection)).max().sort_values(ascending=False)
    print("  " + "   ".join(f"best {kind} {value:.3f}" for kind, value in best.items()))
    print(f"  zoo mean {auroc.mean():.3f}   worst {auroc.min():.3f}   best with labels {auroc.max():.3f}")
    print(
        f"  regret {auroc.max() - ensemble:.3f} together, {auroc.max() - chosen:.3f} alone (best with labels minus "
        f"chosen); a random pick's is {auroc.max() - auroc.mean():.3f}"
    )
    print()
    print(f"report: {report}")


def kinds(selection: Selection) -> pd.Series:
    """The kind of detector of every candidate, by id."""
    return pd.Series({candidate.id: candidate.training.detector for candidate in selection.zoo.candidates})


def aurocs(selection: Selection, task: Task) -> pd.Series:
    """The test AUROC of every trained candidate, by id, in the order of the ranking."""
    trained = selection.ranking[selection.ranking.status != "failed"].candidate
    scores = {i: selection.zoo.evidence(i)[0].test_scores for i in trained}
    return pd.Series({i: roc_auc_score(task.labels, test_scores) for i, test_scores in scores.items()})
