"""Whether an autoencoder finds best what it was trained to undo: Markdown tables of a run of the controlled testbed.

ssad benchmark run alignment-autoencoder --out runs/autoencoder
ssad benchmark study autoencoder-testbed runs/autoencoder

Source: Yoo, Zhao & Akoglu, "Data Augmentation is a Hyperparameter", TMLR 2023.
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from augmentations import InputError
from benchmarks.leaderboard.markdown import print_table
from benchmarks.leaderboard.result import read
from selector.zoo.candidates import NO_AUGMENTATION

KINDS = ("autoencoder", "plain_autoencoder")
CLEARLY = 0.05  # AUROC above the autoencoder that undoes nothing
NOISE = 0.01  # AUROC by which the misaligned may lie above it and still be said not to


def grid(candidates: pd.DataFrame) -> pd.DataFrame:
    """Mean AUROC by augmentation and generator, over data sets and seeds.

    Args:
        candidates: of a run's ``Result``.

    Returns:
        One row per augmentation that autoencoders were trained to undo, "none" the first; one column per generator.

    Raises:
        InputError: where the run has no autoencoder that undoes nothing, or no generator.
    """
    rows = candidates[candidates.detector.str.partition(" (")[0].isin(KINDS) & candidates.kind.ne("")]
    table = rows.dropna(subset="auroc").pivot_table(index="augmentation", columns="kind", values="auroc")
    if NO_AUGMENTATION not in table.index or table.shape[1] == 0:
        remedy = "name the folder of a run of the suite alignment-autoencoder"
        raise InputError("the run", "has no plain autoencoder in a controlled testbed", remedy)
    others = [name for name in table.index if name != NO_AUGMENTATION]
    return table.loc[[NO_AUGMENTATION, *others]]


def alignment(table: pd.DataFrame) -> pd.DataFrame:
    """One row per generator: the aligned autoencoder, the one that undoes nothing, and the best of the others."""
    rows = []
    for generator in [name for name in table.columns if name in table.index]:
        column = table[generator]
        none, aligned = column[NO_AUGMENTATION], column[generator]
        others = column.drop([NO_AUGMENTATION, generator])
        is_first = aligned > others.max() if len(others) else True
        rows.append(
            {
                "generator": generator,
                "aligned": f"{aligned:.3f}",
                "none": f"{none:.3f}",
                "gain": f"{aligned - none:+.3f}",
                "best other": f"{others.idxmax()} {others.max():.3f}" if len(others) else "",
                "others above none": f"{(others > none + NOISE).sum()} of {len(others)}",
                f"first, {CLEARLY} above none": "yes" if is_first and aligned >= none + CLEARLY else "not reproduced",
            }
        )
    return pd.DataFrame(rows)


def autoencoder_testbed(
    out: Annotated[Path, typer.Argument(help="Folder that `ssad benchmark run alignment-autoencoder --out` wrote.")],
) -> None:
    """Print the AUROC of autoencoders by what they were trained to undo and what made the anomalies.

    Example: ssad benchmark study autoencoder-testbed runs/autoencoder
    """
    candidates = read(out).candidates
    table = grid(candidates)
    cases = candidates.groupby(["task", "seed"]).ngroups
    shown = table.map(lambda value: f"{value:.3f}").rename_axis("trained to undo").reset_index()
    print_table(shown, f"AUROC by the generator of the anomalies, mean over {cases // table.shape[1]} trainings each")
    print_table(alignment(table), "Aligned: trained to undo what made the anomalies")
