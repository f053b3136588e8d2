"""Running a suite: every zoo is trained once, and what judging needs is kept, so that judging takes no training.

    settings.json                   what was run, frozen
    training/<data set>-<seed>/     the run folder of a zoo: weights and embeddings; not needed any more once judged
    zoos/<data set>-<seed>/         candidates.json, views.parquet: which images a task is made of, with their labels
                                    scores.parquet: images x candidates; criteria.parquet: those of embeddings, by trial
    leaderboard.csv, candidates.csv the judgement, renewed with every zoo that is finished

Of labels, ``views.parquet`` alone has any.
"""

import json
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
import torch
from selector.execution.execution import engine

import detectors
from augmentations import InputError
from benchmarks.suites.baselines import FLOORS
from benchmarks.suites.definitions import DataSet, Suite
from benchmarks.tasks.task import Task
from benchmarks.tasks.view import View
from detectors import Settings, files
from selector import criteria
from selector.evidence.evidence import EMBEDDINGS
from selector.inputs.digests import set_digest
from selector.inputs.splits import split
from selector.selection import installed_version
from selector.zoo.candidates import Candidate, plan
from selector.zoo.store import Store
from selector.zoo.zoo import TRAINING_FAILURES, Job, Zoo, work

OF_EMBEDDINGS = [name for name in criteria.names() if set(criteria.get(name).needs) & set(EMBEDDINGS)]
OF_SCORES = [name for name in criteria.names() if name not in OF_EMBEDDINGS]
SETTINGS = Lock()  # held from reading settings.json to writing it
LIBRARIES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "scikit-image")


@dataclass(frozen=True, eq=False)
class Step:
    """What a worker is handed: a candidate to train and measure, or a floor to score."""

    store: Path
    views: tuple[View, ...]
    ratios: tuple[float, ...]
    seed: int
    device: str
    job: Job | None = None
    floor: str = ""


def step(item: Step) -> None:
    """Train, score and measure; what is there already stays. Failures are results."""
    store = Store(item.store)
    if item.job is None:
        _score_floor(store, item)
        return
    work(item.job)
    for candidate in item.job.candidates:
        if not (path := _measured(store, candidate.id)).is_file():
            ok = store.record(candidate.id)["status"] == "ok"
            write_table(path, measure(store, candidate, item) if ok else pd.DataFrame())


def measure(store: Store, candidate: Candidate, item: Step) -> pd.DataFrame:
    """The criteria of embeddings in every trial of every view: task, anomaly_ratio, trial, criterion, value."""
    draws = store.evidence(candidate.id)
    rows = []
    for view in item.views:
        for ratio, trial, images in view.trials(item.ratios, item.seed):
            evidence = draws[trial].subset(test=images, test_scores=images)
            values = criteria.evaluate(evidence, OF_EMBEDDINGS)
            rows += [(view.task, ratio, trial, name, value) for name, value in values.items()]
    return pd.DataFrame(rows, columns=["task", "anomaly_ratio", "trial", "criterion", "value"])


def _measured(store: Store, name: str) -> Path:
    return store.root / "measured" / f"{name}.parquet"


def _score_floor(store: Store, item: Step) -> None:
    path = _measured(store, item.floor)
    if path.is_file():
        return
    trainings = [Candidate.from_json(values).training for values in store.run["settings"]["candidates"]]
    members = [training.make_augmentation() for training in trainings]
    fit, test = store.images["train"], store.images["test"]
    try:
        scores = FLOORS[item.floor](fit, test, members, trainings[0].settings, item.seed, item.device)
        table = pd.DataFrame({"score": scores.numpy(), "reason": ""})
    except TRAINING_FAILURES as error:
        table = _lost(len(test), f"{type(error).__name__}: {error}")
    write_table(path, table)


def _lost(n: int, reason: str) -> pd.DataFrame:
    return pd.DataFrame({"score": [float("nan")] * n, "reason": reason})


@dataclass(frozen=True, eq=False)
class ZooRun:
    """One zoo of a suite: a data set and a seed."""

    data_set: DataSet
    seed: int
    zoo: Zoo
    views: tuple[View, ...]
    folder: Path

    def describe(self) -> str:
        """Which zoo, how many candidates, and how many of them failed."""
        failed = sum(record["status"] != "ok" for _, record in self.zoo.records())
        trouble = f", {failed} failed" if failed else ""
        return f"{self.data_set.name}, seed {self.seed}: {len(self.zoo.candidates)} candidates{trouble}"

    def steps(self, ratios: tuple[float, ...]) -> list[Step]:
        """What is still to be done."""
        store = self.zoo.store
        todo = {c.id for c in self.zoo.candidates if not _measured(store, c.id).is_file()}
        shared = (store.root, self.views, ratios, self.seed, str(self.zoo.device))
        jobs = [Step(*shared, job) for job in self.zoo.jobs(todo)]
        floors = [Step(*shared, floor=name) for name in FLOORS]
        return [*jobs, *(one for one in floors if not _measured(store, one.floor).is_file())]

    def collect(self) -> None:
        """Write what judging needs, once every step is done; ``scores.parquet`` last."""
        store, records = self.zoo.store, dict(self.zoo.records())
        described = [
            {
                "id": c.id,
                "augmentation": c.training.augmentation,
                "hyperparameters": c.hyperparameters,
                **{key: record[key] for key in ("status", "reason", "seconds")},
            }
            for c, record in records.items()
        ]
        files.write_bytes(self.folder / "candidates.json", json.dumps(described, indent=1).encode())
        n_train = sum(len(store.images[part]) for part in ("train", "validation", "calibration"))
        write_table(self.folder / "views.parquet", pd.concat([v.table() for v in self.views]).assign(train=n_train))
        trained = [c.id for c, record in records.items() if record["status"] == "ok"]
        measured = [read_table(_measured(store, i)).assign(candidate=i) for i in trained]
        table = pd.concat(measured, ignore_index=True) if measured else pd.DataFrame()
        write_table(self.folder / "criteria.parquet", table)
        write_table(self.folder / "scores.parquet", _scores(store, trained))


def _scores(store: Store, trained: list[str]) -> pd.DataFrame:
    """part, row, then a column a candidate and a floor; floors have scores of test images only."""
    columns: dict[str, pd.Series] = {}
    for candidate_id in trained:
        evidence = store.evidence(candidate_id)[0]
        parts = {part: getattr(evidence, f"{part}_scores") for part in ("validation", "augmented", "pseudo", "test")}
        parts["calibration"] = store.calibration(candidate_id)["scores"]
        columns[candidate_id] = pd.concat(
            {part: pd.Series(scores.numpy()) for part, scores in parts.items() if scores is not None}
        )
    for floor in FLOORS:
        columns[floor] = pd.concat({"test": read_table(_measured(store, floor)).score})
    return pd.DataFrame(columns).rename_axis(["part", "row"]).reset_index()


def run(
    suite: Suite,
    out: Path,
    roots: Mapping[str, Path],
    jobs: int | None = None,
    device: str = "auto",
    command: str = "",
) -> Iterator[ZooRun]:
    """Train and measure what is not finished yet; yields every zoo of which all is kept, those of before first.

    roots: folders of data that no package ships, by the first word of a task's name. Raises InputError for a folder
    that holds another run, or for missing data, before any training.
    """
    settings = detectors.preset(suite.preset)
    settings = replace(settings, steps=suite.steps or settings.steps)
    if find_spec("pyarrow") is None:
        raise InputError("Parquet files", "need the package pyarrow", "pip install 'ssad[benchmarks]'")
    place = detectors.resolve(device)
    workers = engine(jobs, place)
    started = time.monotonic()
    _begin(suite, settings, out, command)
    runs: dict[Path, ZooRun] = {}
    for data_set in suite.data_sets:
        wanted = [seed for seed in suite.seeds if not (folder(out, data_set, seed) / "scores.parquet").is_file()]
        tasks = data_set.load(roots) if wanted else []
        for seed in wanted:
            one = _prepare(suite, settings, out, data_set, tasks, seed, place)
            runs[one.zoo.store.root] = one
    left = {root: one.steps(suite.ratios) for root, one in runs.items()}
    unfinished = {root: len(steps) for root, steps in left.items()}
    for root in [root for root, steps in left.items() if not steps]:
        runs[root].collect()
        yield runs[root]
    with closing(workers.run(step, [item for steps in left.values() for item in steps])) as outcomes:
        for item, died in outcomes:
            one = runs[item.store]
            if died is not None:
                _keep_death(one, item, died)
            unfinished[item.store] -= 1
            if not unfinished[item.store]:
                one.collect()
                _add_seconds(out, time.monotonic() - started)
                started = time.monotonic()
                yield one


def _keep_death(one: ZooRun, item: Step, died: Exception) -> None:
    if item.job is None:
        lost = _lost(len(one.zoo.store.images["test"]), str(died))
        write_table(_measured(one.zoo.store, item.floor), lost)
        return
    one.zoo.keep_death(item.job, died)
    for candidate in item.job.candidates:
        write_table(_measured(one.zoo.store, candidate.id), pd.DataFrame())


def folder(out: Path, data_set: DataSet, seed: int) -> Path:
    """Where what judging needs of a zoo is kept."""
    return out / "zoos" / f"{data_set.name}-{seed}"


def _prepare(
    suite: Suite,
    settings: Settings,
    out: Path,
    data_set: DataSet,
    tasks: list[Task],
    seed: int,
    place: torch.device,
) -> ZooRun:
    settings = replace(settings, image_size=data_set.image_size)
    candidates = plan(suite.grids, ("classifier",), ("gaussian",), settings, seed)
    train, test = tasks[0].train, torch.cat([task.test for task in tasks])
    splits = split(len(train), seed)
    pixels = {name: train[getattr(splits, name)] for name in ("train", "validation", "calibration")} | {"test": test}
    store = Store(out / "training" / f"{data_set.name}-{seed}")
    images = {"train images": train, "test images": test}
    described = {name: set_digest(values) for name, values in images.items()}
    with store.locked():
        store.create({"settings": {"candidates": [c.to_json() for c in candidates], "seed": seed, **described}}, pixels)
    zoo = Zoo(store, candidates, place)
    return ZooRun(data_set, seed, zoo, views(data_set, tasks), folder(out, data_set, seed))


def views(data_set: DataSet, tasks: list[Task]) -> tuple[View, ...]:
    """Every task of a data set as rows of all test images, one after another; by kind where that is asked for."""
    found, start = [], 0
    for task in tasks:
        rows = torch.arange(len(task.test))
        kinds = sorted(set(task.kinds) - {""}) if data_set.by_kind and task.kinds else [""]
        for kind in kinds:
            chosen = rows if not kind else torch.tensor([k in ("", kind) for k in task.kinds or ()]).nonzero()[:, 0]
            name = f"{task.name}-{kind}" if kind else task.name
            found.append(View(name, data_set.group, kind, start + chosen, task.labels[chosen].long()))
        start += len(task.test)
    return tuple(found)


def _begin(suite: Suite, settings: Settings, out: Path, command: str) -> None:
    frozen = json.loads(json.dumps(asdict(suite) | {"settings": settings.to_json(), "floors": list(FLOORS)}))
    name, description = frozen.pop("name"), frozen.pop("description")
    if (out / "settings.json").is_file():
        there = load_settings(out)["frozen"]
        if there != frozen:
            differ = ", ".join(sorted(key for key in frozen if there.get(key) != frozen[key]))
            raise InputError(str(out), f"holds a run with other settings ({differ})", "choose another folder")
        return
    if out.exists() and any(out.iterdir()):
        raise InputError(str(out), "holds other files", "choose a new or an empty folder")
    keep_settings(
        out,
        {
            "suite": name,
            "description": description,
            "command": command,
            "commit": _commit(),
            "seconds": 0.0,
            "versions": {"python": platform.python_version()} | {name: installed_version(name) for name in LIBRARIES},
            "tasks": {},
            "frozen": frozen,
        },
    )


def _add_seconds(out: Path, seconds: float) -> None:
    change_settings(out, lambda kept: {"seconds": round(kept["seconds"] + seconds, 1)})


def _commit() -> str:
    """The commit of this source tree, where there is one."""
    git = shutil.which("git")
    if git is None:
        return ""
    told = subprocess.run(
        [git, "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Parquet, whole or absent."""
    buffer = BytesIO()
    table.to_parquet(buffer, index=False, compression="zstd")
    files.write_bytes(path, buffer.getvalue())


def read_table(path: Path) -> pd.DataFrame:
    """Parquet; raises InputError where it is damaged."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"can't be read ({error})", "delete it and run the suite again") from error


def load_settings(out: Path) -> dict[str, Any]:
    """The frozen settings of a run. Raises InputError where there are none."""
    path = out / "settings.json"
    if not path.is_file():
        raise InputError(str(out), "holds no settings.json", "name the folder that `ssad benchmark run` wrote")
    return json.loads(path.read_bytes())


def keep_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a run, whole or as they were."""
    files.write_bytes(out / "settings.json", json.dumps(settings, indent=1).encode())


def change_settings(out: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Put what ``change`` makes of the settings into them; zoos are judged by a thread beside the training's."""
    with SETTINGS:
        kept = load_settings(out)
        keep_settings(out, kept | change(kept))
