"""`ssad benchmark`: run a suite, judge it again, write its leaderboard, leave data sets out, time the parts."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from joblib import Parallel, delayed

from augmentations import InputError
from benchmarks import leaderboard, picture
from benchmarks.evaluation.evaluate import judge_folder, merge, zoos
from benchmarks.leaderboard import documentation
from benchmarks.speed import compare as speed
from benchmarks.studies import learning_curves as curves
from benchmarks.studies import leave_one_dataset_out as leave_one_out
from benchmarks.suites import definitions as suites
from benchmarks.suites.run import folder, load_settings, run

app = typer.Typer(help="Run the benchmarks and write their leaderboards.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Folder that `ssad benchmark run --out` wrote.")]


@app.command("run")
def run_suite(
    suite: Annotated[str, typer.Argument(help=f"One of: {', '.join(suites.SUITES)}.")],
    out: Annotated[Path, typer.Option(help="Folder for the results; a stopped run goes on there.")],
    root: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable: NAME=FOLDER, where the data are that no package ships, as in mvtec=data/mvtec."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Worker processes. [default: one a core, or one a GPU]")] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
) -> None:
    """Train the zoos of a suite, judge every criterion on them by the labels, and write the leaderboard.

    Example: ssad benchmark run quick --out runs/quick
    """
    chosen = suites.get(suite)
    command = " ".join(["ssad benchmark run", suite, "--out", str(out), *(f"--root {given}" for given in root or [])])
    # Judged beside the training, by a thread, so that no worker waits for it; each zoo's rows are then on disk.
    with ThreadPoolExecutor(max_workers=1) as judges:
        judged = []
        for data_set in chosen.data_sets:
            for seed in chosen.seeds:
                before = folder(out, data_set, seed)
                if (before / "scores.parquet").is_file() and not (before / "leaderboard.csv").is_file():
                    judged.append(judges.submit(_judge, out, before, seed, chosen.ratios))
        for one in run(chosen, out, _roots(root or []), jobs, device, command):
            print(one.describe(), flush=True)
            judged.append(judges.submit(_judge, out, one.folder, one.seed, chosen.ratios))
        for future in judged:
            future.result()
    _tell(out)


@app.command()
def judge(out: Folder) -> None:
    """Judge a run again from what it kept, without training: for a criterion that was not there then.

    Example: ssad benchmark judge runs/quick
    """
    ratios = tuple(load_settings(out)["frozen"]["ratios"])
    Parallel(n_jobs=-1)(delayed(judge_folder)(zoo, seed, ratios) for zoo, seed in zoos(out))
    merge(out)
    _tell(out)


@app.command()
def report(
    out: Folder,
    to: Annotated[Path | None, typer.Option(help="Folder for the leaderboard. [default: the same]")] = None,
) -> None:
    """Write the leaderboard of a run: a page, Markdown, LaTeX and CSV.

    Example: ssad benchmark report runs/quick
    """
    print(f"leaderboard  {leaderboard.write(out, to)}")


@app.command("curves")
def draw_curves(
    out: Folder,
    to: Annotated[Path, typer.Option("--out", help="Folder for the numbers, the tables and a figure a curve.")],
) -> None:
    """Draw how the regret of a choice falls with images and anomalies, from what a run kept, without training.

    Example: ssad benchmark curves runs/development --out runs/curves
    """
    print(f"curves       {curves.write(out, to)}")


@app.command("leave-one-out")
def validate(out: Folder) -> None:
    """Choose rules on all data sets of a judged run but one, and ask how good they are on that one.

    Example: ssad benchmark leave-one-out runs/development
    """
    print(f"tables       {leave_one_out.write(out)}")


app.command("speed")(speed.table)
app.command("picture")(picture.picture)
app.command("docs")(documentation.docs)


def _judge(out: Path, kept: Path, seed: int, ratios: tuple[float, ...]) -> None:
    judge_folder(kept, seed, ratios)
    merge(out)


def _roots(given: list[str]) -> dict[str, Path]:
    roots = {}
    for pair in given:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise InputError(f"--root {pair}", "must be NAME=FOLDER", "try --root mvtec=data/mvtec")
        roots[name] = Path(path)
    return roots


def _tell(out: Path) -> None:
    print(f"rows         {out / 'leaderboard.csv'}")
    print(f"leaderboard  {leaderboard.write(out)}")
