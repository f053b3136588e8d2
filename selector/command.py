"""The command `ssad`: select, detect, report, and what other packages add under "ssad.commands"."""

import csv
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import augmentations
from augmentations import InputError
from selector.detections import heatmap_path, write_heatmap
from selector.selection import NothingToSelectError, Selection, load, select_best
from selector.store import StorageError, storing

USER_ERRORS = (InputError, StorageError, NothingToSelectError)
BAD_INPUT = 2  # the exit code

app = typer.Typer(
    name="ssad",
    help="Choose the augmentation of a self-supervised anomaly detector without labels, then detect with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def select(
    train: Annotated[Path, typer.Option(help="Folder of normal images (at least 20).")],
    test: Annotated[Path, typer.Option(help="Folder of unlabeled images, normal and anomalous mixed.")],
    out: Annotated[Path, typer.Option(help="Run folder; a stopped run goes on where it was.")],
    augmentation: Annotated[
        list[str] | None,
        typer.Option(help=f"Repeatable. One of: {', '.join(augmentations.names())}. [default: cutout, cutpaste]"),
    ] = None,
    preset: Annotated[str, typer.Option(help="quick (CPU, minutes), standard or paper (GPU).")] = "quick",
    image_size: Annotated[int | None, typer.Option(help="Pixels a side. [default: the preset's]")] = None,
    criterion: Annotated[str, typer.Option(help="A criterion's name, or auto.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    jobs: Annotated[int | None, typer.Option(help="Worker processes. [default: one a core, or one a GPU]")] = None,
    skip_unreadable: Annotated[bool, typer.Option(help="Leave unreadable images out and list them.")] = False,
) -> None:
    """Train a zoo of detectors and choose the best one without labels.

    Example: ssad select --train good/ --test incoming/ --out run/
    """
    selection = select_best(
        train,
        test,
        augmentations=augmentation or ("cutout", "cutpaste"),
        criterion=criterion,
        preset=preset,
        image_size=image_size,
        seed=seed,
        device=device,
        jobs=jobs,
        out=out,
        skip_unreadable=skip_unreadable,
        progress=True,
    )
    tell_selection(selection)


def tell_selection(selection: Selection) -> Path:
    """Print the verdict and where everything is; returns the path of the report."""
    for sentence in selection.verdict:
        print(sentence)
    print()
    print(f"ranking  {selection.path / 'ranking.csv'}")
    written = selection.report()
    print(f"report   {written}")
    return written


@app.command()
def detect(
    run: Annotated[Path, typer.Argument(help="Run folder that `ssad select --out` wrote.")],
    images: Annotated[Path, typer.Argument(help="Folder of images, or one image.")],
    out: Annotated[Path, typer.Option(help="Folder for detections.csv and heatmaps/; must be new or empty.")],
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(help="Share of normal images called anomalous. [default: the smallest supported, at least .05]"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    skip_unreadable: Annotated[bool, typer.Option(help="Leave unreadable images out and list them.")] = False,
) -> None:
    """Score images with the chosen detector: a CSV row and a heatmap an image.

    Example: ssad detect run/ incoming/ --out result/
    """
    selection = load(run, device=device)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(str(out), "already holds something", "choose a new folder for the result")
    table = out / "detections.csv"
    total, found, skipped = 0, 0, list[tuple[str, str]]()
    batches = selection.detect_batches(images, false_alarm_rate, skip_unreadable)
    first = next(batches)  # bad input is refused here, before anything is written
    with storing(out, kept="nothing half-done was left there"), _all_or_nothing(out):
        draft = out / ".detections.csv.tmp"
        with draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "score", "p_value", "verdict", "heatmap"])
            for batch, read in chain([first], batches):
                for i, name in enumerate(batch.names):
                    heatmap = Path("heatmaps") / heatmap_path(name)
                    write_heatmap(out / heatmap, read.pixels[i], batch.maps[i], selection.map_scale)
                    score, p_value, verdict = batch.table.loc[i, ["score", "p_value", "verdict"]]
                    writer.writerow([name, f"{score:.6g}", f"{p_value:.6g}", verdict, heatmap])
                total += len(batch.names)
                found += int(batch.is_anomaly.sum())
                skipped += batch.skipped
        draft.replace(table)
    for name, reason in skipped:
        print(f"skipped {name}: {reason}")
    rate = first[0].false_alarm_rate
    print(
        f"{found} of {total} images are anomalous at a false-alarm rate of {rate:.3g} "
        f"(p-values from {first[0].n_calibration} held-out normal images)."
    )
    print(f"table     {table}")
    print(f"heatmaps  {out / 'heatmaps'}")


@contextmanager
def _all_or_nothing(out: Path) -> Iterator[None]:
    """Make a result folder, and take away what was written into it unless all of it was."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder that `ssad select --out` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report. [default: the run folder]")] = None,
) -> None:
    """Write the report of a finished selection again.

    Example: ssad report run/
    """
    print(f"report   {load(run).report(out)}")


def _add_commands() -> None:
    for entry in entry_points(group="ssad.commands"):
        try:
            command = entry.load()
        except ModuleNotFoundError as error:
            print(f"ssad {entry.name} is left out: {error}", file=sys.stderr)
            continue
        app.command(entry.name)(command)


def main() -> None:
    """Run the command: bad input is one sentence on standard error and exit code 2, never a traceback."""
    _add_commands()
    try:
        app()
    except USER_ERRORS as error:
        Console(stderr=True, soft_wrap=True).print(f"ssad: {error}", style="red", markup=False, highlight=False)
        sys.exit(BAD_INPUT)
