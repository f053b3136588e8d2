"""The command `ssad`: select, detect, report, and what other packages add under "ssad.commands"."""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress

import augmentations
import detectors
from augmentations import InputError
from selector.detection.conformal import fewest_rejected, validate_fdr
from selector.detection.detections import Detections
from selector.detection.image_file import ImageFile, image_files
from selector.detection.output_folder import DetectionFolder, largest_rejected
from selector.detection.watch import files_now, watch_folder
from selector.execution import WorkerDiedError
from selector.export.formats import ExportError
from selector.inputs.files import FileList, escaped, printable
from selector.inputs.limits import resolve_limit
from selector.inputs.reader import Images, files_of
from selector.inputs.splits import first_folder
from selector.select import NothingToSelectError, select_best
from selector.selection import Selection, load
from selector.zoo.disk import RUN_AGAIN, StorageError, as_storage_error, disk_errors
from selector.zoo.grid_file import ENCODER_EXAMPLE, parse_encoder, read_grid_file
from selector.zoo.machine import is_machine_failure

USER_ERRORS = (InputError, StorageError, NothingToSelectError, ExportError)
SHORTAGES = {errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE}  # of memory, processes and open files
BAD_INPUT = 2  # the exit code
STOPPED = 128 + signal.SIGINT  # by Ctrl-C, as shells have it

MaxMegapixels = Annotated[
    float | None,
    typer.Option(
        help="The largest picture that a file may hold. [default: 300, or the environment variable SSAD_MAX_MEGAPIXELS]"
    ),
]

app = typer.Typer(
    name="ssad",
    help="Choose a self-supervised anomaly detector for your images without labels, then detect anomalies with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def select(
    train: Annotated[Path, typer.Option(help="Folder of normal images (at least 20).")],
    out: Annotated[Path, typer.Option(help="Run folder; a stopped run is resumed, a finished one grows.")],
    test: Annotated[
        Path | None,
        typer.Option(help="Folder of unlabeled images to select with, normal and anomalous mixed."),
    ] = None,
    augmentation: Annotated[
        list[str] | None,
        typer.Option(help=f"Repeatable. One of: {', '.join(augmentations.names())}. [default: cutout, cutpaste]"),
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option(help=f"Repeatable. One of: {', '.join(detectors.names())}; or module:Class."),
    ] = None,
    scorer: Annotated[
        list[str] | None,
        typer.Option(help=f"Repeatable. One of: {', '.join(detectors.scorer_names())}; or module:Class."),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(detectors.ENCODERS)} (random weights); lite0 (pretrained, of the extra `pretrained`); "
            "torchvision/NAME, timm/NAME or module:Class; or its arguments as JSON, such as "
            f"'{ENCODER_EXAMPLE}'. auto: each detector's default. Nothing is downloaded."
        ),
    ] = "auto",
    grid: Annotated[
        Path | None,
        typer.Option(help="JSON or TOML file of augmentations, detectors, scorers (with their settings) and encoder."),
    ] = None,
    preset: Annotated[str, typer.Option(help="quick (CPU, minutes), standard or paper (GPU).")] = "quick",
    image_size: Annotated[
        int | None, typer.Option(help="Side of the images in pixels. [default: the preset's]")
    ] = None,
    criterion: Annotated[
        str, typer.Option(help="Name of a criterion, several names separated by commas (Borda), or auto.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    seeds: Annotated[int, typer.Option(help="Trainings per configuration; criteria are means over them.")] = 1,
    members: Annotated[
        int | None, typer.Option(help="Candidates in the recommended detector. [default: 8; of several kinds 4]")
    ] = None,
    search: Annotated[
        str, typer.Option(help="grid; or random or tpe: Optuna proposes hyperparameters beyond the grid.")
    ] = "grid",
    trials: Annotated[
        int | None, typer.Option(help="Number of configurations that random or tpe proposes. [default: 30]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    jobs: Annotated[int | None, typer.Option(help="Worker processes. [default: one per core, or per GPU]")] = None,
    skip_unreadable: Annotated[bool, typer.Option(help="Leave out unreadable images and list them.")] = False,
    group_by_folder: Annotated[
        bool, typer.Option(help="Keep the train images of each first-level sub-folder (a lot, a camera) in one split.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option(help="Try every failed candidate again; those that lacked memory are, in any case.")
    ] = False,
    max_megapixels: MaxMegapixels = None,
) -> None:
    """Train a zoo of detectors and choose the best one without labels.

    Example: ssad select --train good/ --test incoming/ --out run/
    """
    chosen = {"augmentations": augmentation, "detectors": detector, "scorers": scorer}
    parts: dict[str, Any] = {name: names for name, names in chosen.items() if names}
    if encoder != "auto":
        parts["encoder"] = parse_encoder(encoder)
    for name, part in (read_grid_file(grid) if grid else {}).items():
        if name in parts:
            raise InputError(f"--grid {grid}", f"has {name}, which an option gives too", "leave one of the two out")
        parts[name] = part
    selection = select_best(
        train,
        test,
        **parts,
        criterion=criterion.split(",") if "," in criterion else criterion,
        preset=preset,
        image_size=image_size,
        seed=seed,
        device=device,
        jobs=jobs,
        out=out,
        skip_unreadable=skip_unreadable,
        progress=True,
        groups=first_folder if group_by_folder else None,
        seeds=seeds,
        members=members,
        search=search,
        trials=trials,
        retry_failed=retry_failed,
        max_megapixels=max_megapixels,
    )
    print_selection(selection)


def print_selection(selection: Selection) -> Path:
    """Print the verdict and where everything is; returns the path of the report."""
    for sentence in filter(None, (*selection.verdict, selection.why().summary)):
        print(sentence)
    run = selection.zoo.store.run
    for item in run["skipped"]:
        print(f"skipped {item['name']} ({item['role']}): {item['reason']}")
    for note in run["notes"]:
        if note not in run["warnings"]:  # which the verdict has
            print(f"Noticed: {note}.")
    n_to_retry = sum(bool(record.get("retry")) for _, record in selection.zoo.records())
    if n_to_retry:
        print(
            f"{n_to_retry} of {len(selection.zoo.candidates)} candidates have no result for want of memory or by the "
            "device (their reasons are in the ranking): the same command tries them again."
        )
    print()
    print(f"ranking  {printable(selection.path / 'ranking.csv')}")
    written = selection.report()
    print(f"report   {printable(written)}")
    return written


@app.command()
def detect(
    run: Annotated[Path, typer.Argument(help="Run folder that `ssad select --out` wrote.")],
    images: Annotated[Path, typer.Argument(help="Folder of images, or one image.")],
    out: Annotated[Path, typer.Option(help="Folder for the result; an unfinished result is resumed.")],
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(help="Share of normal images called anomalous. [default: the smallest supported, at least .05]"),
    ] = None,
    fdr: Annotated[
        float | None,
        typer.Option(
            help="False discovery rate, instead of the false-alarm rate: the expected share of normal images among "
            "those called anomalous (Benjamini-Hochberg). Reads the images twice."
        ),
    ] = None,
    cross: Annotated[
        bool,
        typer.Option(
            help="Cross-conformal calibration, for few normal images: each is held out in turn. Twice the rate is "
            "promised; the images took part in the choice of the detector. The first call trains members five times."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    skip_unreadable: Annotated[bool, typer.Option(help="Leave out unreadable images and list them.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing result.")] = False,
    watch: Annotated[
        bool, typer.Option(help="Score images as they arrive in the folder, until Ctrl-C; skips unreadable ones.")
    ] = False,
    max_megapixels: MaxMegapixels = None,
) -> None:
    """Score images with the chosen detector: a CSV row, a JSON line and a heatmap for each image.

    Example: ssad detect run/ incoming/ --out result/
    """
    if fdr is not None and watch:
        raise InputError(
            "--fdr with --watch", "decides over all images together, and some are yet to come", "leave one out"
        )
    selection = load(run, device=device)
    calibration = selection.calibration(cross)
    rate = calibration.validate_rate(false_alarm_rate)
    if fdr is not None:
        validate_fdr(fdr, calibration.smallest_rate)
    request = {
        "detector": selection.detector_id,
        "train images": selection.zoo.store.run["settings"]["train images"],
        "false_alarm_rate": rate,
        "fdr": fdr,
        "cross": cross,
    }
    resolve_limit(max_megapixels)
    options: dict[str, Any] = {"false_alarm_rate": rate, "cross": cross, "max_megapixels": max_megapixels}
    batches_of: Batches = partial(selection.detect_batches, skip_unreadable=watch or skip_unreadable, **options)
    source = None if watch else files_of(images)
    listed = {} if source is None else {file.name: file for file in image_files(source)}
    with (
        disk_errors(out, kept="finished images are kept, and the detection can be resumed"),
        DetectionFolder(out, request, images, overwrite, extend=watch) as results,
    ):
        if watch:
            _watch(selection, images, results, batches_of)
        else:
            largest = None if fdr is None else largest_rejected(batches_of(images), fdr)
            _detect_all(selection, images, results, batches_of, listed, largest)
        left_out = files_now(images) if source is None else source
        results.add_unreadable(left_out.unlisted if watch else ())
        resizing = results.resizing(selection.zoo.store.run["settings"]["image_size"])
        table = results.finish([*left_out.notes, *resizing])
    for name, reason in results.unreadable():
        print(f"skipped {name}: {reason}")
    for note in (*left_out.notes, *results.notes()):
        print(f"Warning: {note}.")
    for note in resizing:
        print(f"Noticed: {note}.")
    promise = f"false-alarm rate of {rate:.3g}" if fdr is None else f"false discovery rate of {fdr:.3g}"
    n_tested = results.n_tested()
    print(
        f"{results.n_anomalies()} of {n_tested} images are anomalous at a {promise} "
        f"(p-values from {calibration.describe()}: {calibration.smallest_rate:.3g} or more)."
    )
    fewest = 1 if fdr is None else fewest_rejected(fdr, calibration.smallest_rate, n_tested)
    if fewest is not None and fewest > 1:
        print(f"With so few of them at least {fewest} images are called anomalous at this rate, or none.")
    print(f"table     {printable(table)}")
    print(f"heatmaps  {printable(out / 'heatmaps')}")


Batches = Callable[..., Iterator[tuple[Detections, Images]]]  # ``detect_batches`` with its settings


def _detect_all(
    selection: Selection,
    images: Path,
    results: DetectionFolder,
    batches_of: Batches,
    listed: Mapping[str, ImageFile],
    largest: float | None,
) -> None:
    results.keep(listed, largest)  # the images decided on together may be others than before
    done = {name for name, file in listed.items() if results.is_current(file)}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("images", total=len(listed), completed=len(done))
        for detections, read in batches_of(images, wanted=lambda name: name not in done):
            if largest is not None:
                detections = replace(detections, is_anomaly=detections.p_values <= largest)
            results.add(detections, read, selection.map_scale, listed)
            results.add_unreadable(detections.skipped)
            progress.update(task, advance=len(detections.names))


def _watch(selection: Selection, folder: Path, results: DetectionFolder, batches_of: Batches) -> None:
    print(f"watching {printable(folder)}; Ctrl-C ends it and writes the table", file=sys.stderr)
    if not results.is_same_source:  # images that were moved away since keep their rows, those of other folders don't
        results.keep({file.name for file in image_files(files_now(folder))})
    try:
        for files in watch_folder(folder, results.is_current):
            try:
                _detect_new(selection, files, results, batches_of)
            except InputError:  # none of them can be read
                for file in files:
                    try:
                        _detect_new(selection, [file], results, batches_of)
                    except InputError as error:
                        results.add_unreadable([(file.name, error.rule)])
    except KeyboardInterrupt:
        unread = [file.name for file in image_files(files_now(folder)) if file.name not in results]
        results.add_unreadable((name, "was not complete when the watch ended") for name in unread)


def _detect_new(
    selection: Selection, files: Sequence[ImageFile], results: DetectionFolder, batches_of: Batches
) -> None:
    source = FileList([file.path for file in files], [file.name for file in files])
    by_name = {file.name: file for file in files}
    for detections, read in batches_of(source):
        results.add(detections, read, selection.map_scale, by_name)
        results.add_unreadable(detections.skipped)
        rows = zip(
            *(detections.names, detections.p_values.tolist(), detections.table.verdict, detections.remarks), strict=True
        )
        for name, p, verdict, remark in rows:
            print(f"{verdict}  p {p:.3g}  {name}{f' ({remark})' if remark else ''}", flush=True)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder that `ssad select --out` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report. [default: the run folder]")] = None,
) -> None:
    """Write the report of a finished selection again.

    Example: ssad report run/
    """
    print(f"report   {printable(load(run).report(out))}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder that `ssad select --out` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for the programs; must be new or empty.")],
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export there.")] = False,
) -> None:
    """Write the chosen detector as ONNX and torch.export programs, which run without this package.

    Example: ssad export run/ --out exported/
    """
    print(f"exported {printable(load(run).export(out, overwrite))}")


def _add_commands(arguments: Sequence[str]) -> None:
    """Add what other packages have, unless the command is one of ours: loading them takes longer than some commands."""
    if arguments[:1] in [[own.callback.__name__] for own in app.registered_commands if own.callback]:
        return
    for entry in entry_points(group="ssad.commands"):
        try:
            command = entry.load()
        except ModuleNotFoundError as error:
            print(f"ssad {entry.name} is left out: {error}", file=sys.stderr)
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)


def main() -> None:
    """Run the command: bad input or a failing machine is one sentence and exit code 2, Ctrl-C 130; no traceback."""
    sys.path.append(os.getcwd())  # last, so that a user's my_kind.py is found and shadows nothing
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold what the terminal has no character for
    try:
        _add_commands(sys.argv[1:])
        app()
    except KeyboardInterrupt:  # while more is loaded; within a command typer ends it likewise
        sys.exit(STOPPED)
    except USER_ERRORS as error:
        _refuse(error)
    except (OSError, MemoryError, RuntimeError) as error:  # wherever, also in a command that another package adds
        refusal = _of_machine(error)
        if refusal is None:
            raise
        _refuse(refusal)


def _of_machine(error: Exception) -> Exception | str | None:
    """What to say of a disk, of a shortage of memory and of a device that failed; None for an error of our own."""
    if isinstance(error, OSError) and error.errno not in SHORTAGES:
        return as_storage_error(error, Path(error.filename or "the disk"))
    if not isinstance(error, WorkerDiedError) and not is_machine_failure(error):
        return None
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    remedy = f"free memory, or use fewer --jobs, and {RUN_AGAIN}: what was finished is kept"
    return f"the machine ran out of something or failed ({reason}); {remedy}"


def _refuse(error: Exception | str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(escaped(f"ssad: {error}"), style="red", markup=False, highlight=False)
    sys.exit(BAD_INPUT)
