"""`ssad benchmark study`: one command for each study."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.studies import across_kinds, false_alarms, learning_curves, leave_one_dataset_out
from benchmarks.studies.autoencoder_testbed import autoencoder_testbed
from benchmarks.studies.contamination import contamination
from benchmarks.studies.localization import localization
from benchmarks.studies.sample_size import sample_size
from benchmarks.studies.shifts import shifts
from benchmarks.studies.supervised_probe import supervised_probe
from benchmarks.studies.two_stage import two_stage

app = typer.Typer(help="Studies of stored zoos and of tasks beyond the leaderboard.", no_args_is_help=True)
app.add_typer(false_alarms.app, name="false-alarms")
app.command("autoencoder-testbed")(autoencoder_testbed)
app.command("contamination")(contamination)
app.command("localization")(localization)
app.command("sample-size")(sample_size)
app.command("shifts")(shifts)
app.command("supervised-probe")(supervised_probe)
app.command("two-stage")(two_stage)

Folder = Annotated[Path, typer.Argument(help="Folder that `ssad benchmark run --out` wrote.")]


@app.command("leave-one-dataset-out")
def leave_one_out(out: Folder) -> None:
    """Choose rules on all data sets of an evaluated run but one, and evaluate them on that one.

    Example: ssad benchmark study leave-one-dataset-out runs/development
    """
    print(f"tables       {leave_one_dataset_out.write(out)}")


@app.command("across-kinds")
def choice_across_kinds(out: Folder) -> None:
    """Choose how to choose between kinds on all data sets of an evaluated run but one, and evaluate it on that one.

    Example: ssad benchmark study across-kinds runs/development-auto
    """
    print(f"tables       {across_kinds.write(out)}")


@app.command("learning-curves")
def curves(
    out: Folder,
    to: Annotated[Path, typer.Option("--out", help="Folder for the numbers, the tables and one figure per curve.")],
) -> None:
    """Draw how the regret of a choice falls with more images and anomalies, from the stored zoos of a run.

    Example: ssad benchmark study learning-curves runs/development --out runs/curves
    """
    print(f"curves       {learning_curves.write(out, to)}")
