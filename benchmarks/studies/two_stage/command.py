"""`ssad benchmark study two-stage`: train, score, and print kinds by scorers beside published numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

import detectors
from augmentations import InputError
from augmentations.errors import unknown_name
from augmentations.randomness import generator
from benchmarks.datasets.registry import other_classes
from benchmarks.studies.two_stage import measure, store, tables
from benchmarks.suites import definitions as suites
from benchmarks.suites import two_stage as compared
from benchmarks.suites.definitions import DataSet, Suite
from benchmarks.suites.roots import folders
from benchmarks.suites.two_stage import Compared
from benchmarks.tasks.contamination import LABELED, SemiSupervised, contaminated, semi_supervised
from benchmarks.tasks.task import SPLIT_SEED, Task
from selector.execution.threads import one_thread

KINDS: Mapping[str, Mapping[str, Compared]] = {
    "two_stage": compared.ON_CPU,
    "two_stage-paper": compared.AS_PUBLISHED,
}
FROM_EACH = 200  # train images of every other class, of which some contaminate
ENOUGH = 10 * LABELED  # train images from which on some can be set aside as labeled


def two_stage(
    out: Annotated[Path, typer.Option(help="Folder for the results; a stopped run is resumed.")],
    suite: Annotated[str, typer.Option(help=f"One of: {', '.join(KINDS)}.")] = "two_stage",
    data: Annotated[
        list[str] | None, typer.Option(help="Repeatable. Train only on these data sets of the suite. [default: all]")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Repeatable. Train only these kinds, in this order. [default: all]")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable. [default: the suite's]")] = None,
    contamination: Annotated[
        list[float] | None,
        typer.Option(help="Repeatable. The share of anomalies among the train images. [default: 0]"),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable. NAME=FOLDER: where data lie that no package ships, as in cifar10=data/cifar10."),
    ] = None,
    train: Annotated[bool, typer.Option(help="Train what is missing, or only print what there is.")] = True,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "cpu",
) -> None:
    """Compare kinds of self-supervision and scorers, with contaminated training and with few labeled images.

    Example: ssad benchmark study two-stage --out runs/two-stage --seed 0 --contamination 0 --contamination 0.1
    """
    if suite not in KINDS:
        raise unknown_name("suite", suite, list(KINDS))
    chosen, kinds = suites.get(suite), KINDS[suite]
    store.begin(out, chosen, kinds)
    if train:
        roots = folders(root or [])
        present, left_out = chosen.divided(roots)
        wanted = _known("data", data, [data_set.name for data_set in chosen.data_sets])
        for data_set in left_out if data else ():
            if data_set.name in wanted:
                raise InputError(data_set.name, "has no folder", f"name it: --root {data_set.source}=...")
        for line in () if data else chosen.said_of_left_out(roots):
            print(line, flush=True)
        of_data = [data_set for data_set in present if data_set.name in wanted]
        rows = {name: kinds[name] for name in _known("kind", kind, list(kinds))}
        ratios = tuple(dict.fromkeys(contamination or [0.0]))
        for s in seed or chosen.seeds:
            for data_set in of_data:
                with one_thread():
                    compare(chosen, data_set, rows, s, ratios, roots, out, device)
    results = store.load(out)
    text = tables.markdown(results)
    store.save_results(out, results, text)
    print(text)
    print(f"results      {out / store.RESULTS}")


def compare(
    suite: Suite,
    data_set: DataSet,
    kinds: Mapping[str, Compared],
    seed: int,
    ratios: Sequence[float],
    roots: Mapping[str, Path],
    out: Path,
    device: str = "cpu",
) -> None:
    """Train every kind on a data set at every ratio, unless its rows are there, and keep the rows."""
    todo = [
        (ratio, name, path)
        for ratio in ratios
        for name in kinds
        if not (path := store.rows_file(out, data_set.name, seed, ratio, name)).is_file()
    ]
    if not todo:
        return
    preset = replace(detectors.get_preset(suite.preset), image_size=data_set.image_size)
    (task,) = data_set.load(roots)
    pool = others(data_set, roots) if any(ratios) else None
    splits = {ratio: split(task, ratio, seed, pool, max(ratios)) for ratio in ratios}
    for ratio, name, path in todo:
        same = {"data_set": data_set.name, "seed": seed, "contamination": ratio, "kind": name}
        rows = [row | same for row in measure.rows(kinds[name], preset, splits[ratio], seed, device)]
        store.save(path, rows)
        print(f"{data_set.name}, seed {seed}, {ratio:.0%} anomalous, {name}: {_said(rows)}", flush=True)


def split(task: Task, ratio: float, seed: int, pool: Tensor | None, largest: float) -> SemiSupervised:
    """The contaminated task, and labeled images where there are enough that some can be set aside."""
    if len(task.train) >= ENOUGH:
        if pool is None and not largest:
            pool = task.train  # nothing is taken from it, and the test set stays whole
        return semi_supervised(task, ratio, seed, pool=pool)
    whole = task if not largest else contaminated(task, ratio, seed, pool)
    return SemiSupervised(whole, task.train[:0])


def others(data_set: DataSet, roots: Mapping[str, Path]) -> Tensor | None:
    """(p,C,H,W) train images of the other classes, mixed; None for a data set whose classes are not numbered."""
    siblings = other_classes(data_set.name)
    if not siblings:
        return None
    source = generator(SPLIT_SEED, "benchmarks", "other classes", data_set.name)
    parts = []
    for name in siblings:
        (task,) = replace(data_set, tasks=(name,), reduced=False).load(roots)
        parts.append(task.train[torch.randperm(len(task.train), generator=source)[:FROM_EACH]])
    pool = torch.cat(parts)
    return pool[torch.randperm(len(pool), generator=source)]


def _known(what: str, names: list[str] | None, known: list[str]) -> list[str]:
    for name in names or []:
        if name not in known:
            raise unknown_name(what, name, known)
    return names or known


def _said(rows: list[dict[str, object]]) -> str:
    of_one_class = {r["scorer"]: r["auroc"] for r in rows if r["protocol"] == measure.ONE_CLASS and r["auroc"]}
    if not of_one_class:
        return str(rows[0]["reason"])
    return ", ".join(f"{name} {value:.3f}" for name, value in of_one_class.items()) + f" ({rows[0]['seconds']} s)"
