"""`ssad benchmark`: run a suite, evaluate it again, write its leaderboard, run a study, time the parts."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from joblib import Parallel, delayed

from benchmarks import leaderboard, picture
from benchmarks.evaluation.evaluate import evaluate_folder, merge
from benchmarks.evaluation.judgements import is_held_out, record
from benchmarks.leaderboard import documentation
from benchmarks.speed.command import speed
from benchmarks.studies.command import app as studies
from benchmarks.suites import definitions as suites
from benchmarks.suites.files import is_stored, load_settings, stored_zoos, zoo_folder
from benchmarks.suites.roots import folders
from benchmarks.suites.run import run
from selector.zoo.disk import disk_errors, lock_folder

app = typer.Typer(help="Run the benchmarks and write their leaderboards.", no_args_is_help=True)
app.command("speed")(speed)
app.command("picture")(picture.picture)
app.command("docs")(documentation.docs)
app.add_typer(studies, name="study")

Folder = Annotated[Path, typer.Argument(help="Folder that `ssad benchmark run --out` wrote.")]


@app.command("run")
def run_suite(
    suite: Annotated[str, typer.Argument(help=f"One of: {', '.join(suites.SUITES)}.")],
    out: Annotated[Path, typer.Option(help="Folder for the results; a stopped run is resumed.")],
    root: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable. NAME=FOLDER: where data lie that no package ships, as in mvtec=data/mvtec."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Worker processes. [default: one per core, or per GPU]")] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
) -> None:
    """Train the zoos of a suite, evaluate every criterion on them with labels, and write the leaderboard.

    Example: ssad benchmark run quick --out runs/quick
    """
    chosen, roots = suites.get(suite), folders(root or [])
    for line in chosen.said_of_left_out(roots):
        print(line, flush=True)
    command = " ".join(["ssad benchmark run", suite, "--out", str(out), *(f"--root {pair}" for pair in root or [])])
    with disk_errors(out):
        lock = lock_folder(out, by="benchmark")
        try:
            _run(chosen, out, roots, jobs, device, command)
        finally:
            lock.release()


def _run(
    chosen: suites.Suite, out: Path, roots: Mapping[str, Path], jobs: int | None, device: str, command: str
) -> None:
    if is_held_out(data_set.group for data_set in chosen.data_sets):
        _run_held_out(chosen, out, roots, jobs, device, command)
        return
    # Evaluated beside the training, by a thread, so that no worker waits for it; each zoo's rows are then on disk.
    with ThreadPoolExecutor(max_workers=1) as evaluation:
        futures = []
        for data_set in chosen.data_sets:
            for seed in chosen.seeds:
                folder = zoo_folder(out, data_set.name, seed)
                if is_stored(folder) and not (folder / "leaderboard.csv").is_file():
                    futures.append(evaluation.submit(_evaluate, out, folder, seed, chosen.ratios))
        for zoo_run in run(chosen, out, roots, jobs, device, command):
            print(zoo_run.describe(), flush=True)
            futures.append(evaluation.submit(_evaluate, out, zoo_run.folder, zoo_run.seed, chosen.ratios))
        for future in futures:
            future.result()
    merge(out)  # a run that was stopped may have evaluated a zoo and not joined its rows
    _write_leaderboard(out)


def _run_held_out(
    chosen: suites.Suite, out: Path, roots: Mapping[str, Path], jobs: int | None, device: str, command: str
) -> None:
    """Evaluate when everything is trained: one judgement, however often the training was stopped."""
    for zoo_run in run(chosen, out, roots, jobs, device, command):
        print(zoo_run.describe(), flush=True)
    if all((zoo.path / "leaderboard.csv").is_file() for zoo in stored_zoos(out)):
        _write_leaderboard(out)
    else:
        judge(out, command)


@app.command()
def evaluate(out: Folder) -> None:
    """Evaluate the stored zoos of a run again, without training: for a new criterion, for example.

    Example: ssad benchmark evaluate runs/quick
    """
    judge(out, "ssad benchmark evaluate")


def judge(out: Path, command: str) -> None:
    """Evaluate all stored zoos of a run and write its leaderboard; of held-out data, record it before."""
    ratios = tuple(load_settings(out)["frozen"]["ratios"])
    record(out, command)
    Parallel(n_jobs=-1)(delayed(evaluate_folder)(zoo.path, zoo.seed, ratios) for zoo in stored_zoos(out))
    merge(out)
    _write_leaderboard(out)


@app.command()
def report(
    out: Folder,
    to: Annotated[Path | None, typer.Option(help="Folder for the leaderboard. [default: the same]")] = None,
) -> None:
    """Write the leaderboard of a run: a page, Markdown, LaTeX and CSV.

    Example: ssad benchmark report runs/quick
    """
    print(f"leaderboard  {leaderboard.write(out, to)}")


def _evaluate(out: Path, folder: Path, seed: int, ratios: tuple[float, ...]) -> None:
    evaluate_folder(folder, seed, ratios)
    merge(out)


def _write_leaderboard(out: Path) -> None:
    print(f"rows         {out / 'leaderboard.csv'}")
    print(f"leaderboard  {leaderboard.write(out)}")
