"""The run of a suite: every zoo is trained once, and what its evaluation needs is stored."""

import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import torch

import detectors
from augmentations import InputError
from benchmarks.suites.baselines import BASELINES
from benchmarks.suites.definitions import DataSet, Suite
from benchmarks.suites.files import (
    OF_EMBEDDINGS,
    is_stored,
    load_settings,
    read_table,
    save_settings,
    training_folder,
    update_settings,
    write_table,
    zoo_folder,
)
from benchmarks.suites.source_tree import source_tree
from benchmarks.tasks.task import Task
from benchmarks.tasks.view import View
from detectors import Classifier, ClassifierSettings, Preset, files
from selector import criteria
from selector.execution import resolve_engine
from selector.inputs.digests import set_digest
from selector.inputs.splits import split
from selector.inputs.versions import installed_version
from selector.zoo.candidates import Candidate, kinds_in_words
from selector.zoo.plan import Plan
from selector.zoo.prepare import prepare
from selector.zoo.store import Store
from selector.zoo.training import TRAINING_FAILURES, Job, train_candidates
from selector.zoo.zoo import Zoo

LIBRARIES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "scikit-image")


@dataclass(frozen=True, eq=False)
class Step:
    """A work item: candidates to train and evaluate, or a baseline to score."""

    store: Path
    views: tuple[View, ...]
    ratios: tuple[float, ...]
    seed: int
    device: str
    job: Job | None = None
    baseline: str = ""


def step(item: Step) -> None:
    """Train, score and evaluate the criteria of embeddings; existing files stay. Failures are results."""
    store = Store(item.store)
    if item.job is None:
        _score_baseline(store, item)
        return
    train_candidates(item.job)
    for candidate in item.job.candidates:
        if not (path := _values_file(store, candidate.id)).is_file():
            ok = store.record(candidate.id)["status"] == "ok"
            write_table(path, evaluate_criteria(store, candidate, item) if ok else pd.DataFrame())


def evaluate_criteria(store: Store, candidate: Candidate, item: Step) -> pd.DataFrame:
    """The criteria of embeddings in every trial of every view: task, anomaly_ratio, trial, criterion, value.

    Of a kind that gives no evidence for a criterion, such as pseudo anomalies, its value is nan.
    """
    draws = store.evidence(candidate.id)
    possible = [name for name in OF_EMBEDDINGS if set(criteria.get(name).needs) <= draws[0].available]
    none = dict.fromkeys(OF_EMBEDDINGS, float("nan"))
    rows = []
    for view in item.views:
        for ratio, trial, images in view.trials(item.ratios, item.seed):
            evidence = draws[trial % len(draws)].subset(test=images, test_scores=images)
            values = none | criteria.evaluate(evidence, possible)
            rows += [(view.task, ratio, trial, name, value) for name, value in values.items()]
    return pd.DataFrame(rows, columns=["task", "anomaly_ratio", "trial", "criterion", "value"])


def _values_file(store: Store, name: str) -> Path:
    return store.root / "measured" / f"{name}.parquet"


def _score_baseline(store: Store, item: Step) -> None:
    path = _values_file(store, item.baseline)
    if path.is_file():
        return
    trainings = [Candidate.from_json(values).training for values in store.run["settings"]["candidates"]]
    members = [a for a in (training.make_augmentation() for training in trainings) if a is not None]
    train, test = store.images["train"], store.images["test"]
    try:
        settings = ClassifierSettings(**store.run["settings"]["baseline"])
        scores = BASELINES[item.baseline](train, test, members, settings, item.seed, item.device)
        table = pd.DataFrame({"score": scores.numpy(), "reason": ""})
    except TRAINING_FAILURES as error:
        table = _missing_scores(len(test), f"{type(error).__name__}: {error}")
    write_table(path, table)


def _missing_scores(n: int, reason: str) -> pd.DataFrame:
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
        todo = {c.id for c in self.zoo.candidates if not _values_file(store, c.id).is_file()}
        shared = (store.root, self.views, ratios, self.seed, str(self.zoo.device))
        jobs = [Step(*shared, job) for job in self.zoo.jobs(todo)]
        baselines = [name for name in BASELINES if not _values_file(store, name).is_file()]
        return [*jobs, *(Step(*shared, baseline=name) for name in baselines)]

    def collect(self) -> None:
        """Write the stored zoo, once every step is done; ``scores.parquet`` last."""
        store, records = self.zoo.store, dict(self.zoo.records())
        kinds = kinds_in_words(self.zoo.candidates)
        described = [
            {
                "id": c.id,
                "detector": kinds[c.id],
                "scorer": c.scorer.describe(),
                "score_is_distance": record["status"] == "ok" and bool(store.evidence(c.id)[0].score_is_distance),
                "augmentation": c.augmentation,
                "hyperparameters": c.hyperparameters,
                "kind_of_scores": c.kind_of_scores,
                **{key: record[key] for key in ("status", "reason", "seconds")},
            }
            for c, record in records.items()
        ]
        files.write_bytes(self.folder / "candidates.json", json.dumps(described, indent=1).encode())
        n_train = sum(len(store.images[part]) for part in ("train", "validation", "calibration"))
        write_table(self.folder / "views.parquet", pd.concat([v.table() for v in self.views]).assign(train=n_train))
        trained = [c.id for c, record in records.items() if record["status"] == "ok"]
        values = [read_table(_values_file(store, i)).assign(candidate=i) for i in trained]
        table = pd.concat(values, ignore_index=True) if values else pd.DataFrame()
        write_table(self.folder / "criteria.parquet", table)
        write_table(self.folder / "scores.parquet", _scores(store, trained))
        store.forget_features()
        store.forget_progress()


def _scores(store: Store, trained: list[str]) -> pd.DataFrame:
    """part, family, row, then one column per candidate and per baseline; baselines have scores of test images only.

    family: of validation anomalies, the augmentation that made them; "" elsewhere.
    """
    columns: dict[str, pd.Series] = {}
    for candidate_id in trained:
        evidence = store.evidence(candidate_id)[0]
        whole = {part: getattr(evidence, f"{part}_scores") for part in ("validation", "augmented", "test")}
        whole["calibration"] = store.calibration(candidate_id)["scores"]
        parts = {(part, ""): scores for part, scores in whole.items() if scores is not None}
        if evidence.pseudo_scores is not None:
            blocks = evidence.pseudo_scores.chunk(len(evidence.pseudo_families))
            parts |= {("pseudo", f): scores for f, scores in zip(evidence.pseudo_families, blocks, strict=True)}
        columns[candidate_id] = pd.concat({key: pd.Series(scores.numpy()) for key, scores in parts.items()})
    for name in BASELINES:
        columns[name] = pd.concat({("test", ""): read_table(_values_file(store, name)).score})
    return pd.DataFrame(columns).rename_axis(["part", "family", "row"]).reset_index()


def run(
    suite: Suite,
    out: Path,
    roots: Mapping[str, Path],
    jobs: int | None = None,
    device: str = "auto",
    command: str = "",
) -> Iterator[ZooRun]:
    """Train the zoos of a suite and store what their evaluation needs; a stopped run is resumed.

    Args:
        suite: the data sets, candidates and seeds.
        out: folder of the run.
        roots: folders of data that no package ships, by the first word of a task's name.
        jobs: worker processes; None: one per core, or one per GPU.
        device: "auto", "cuda", "mps" or "cpu".
        command: the command line, for the settings.

    Yields:
        Every zoo that was not stored yet, as soon as it is.

    Raises:
        InputError: for a folder with another run, or for missing data, before any training.
    """
    preset = detectors.get_preset(suite.preset)
    preset = replace(preset, steps=suite.steps or preset.steps)
    if find_spec("pyarrow") is None:
        raise InputError("Parquet files", "need the package pyarrow", "pip install 'ssad[benchmarks]'")
    place = detectors.resolve_device(device)
    workers = resolve_engine(None, jobs, place)
    started = time.monotonic()
    present, _ = suite.divided(roots)
    _begin(suite, preset, out, command)
    runs: dict[Path, ZooRun] = {}
    for data_set in present:
        wanted = [seed for seed in suite.seeds if not is_stored(zoo_folder(out, data_set.name, seed))]
        if not wanted:
            continue
        of_size = replace(preset, image_size=data_set.image_size)
        plan = Plan.joined(suite.zoo, of_size)
        tasks = data_set.load(roots, plan.image_size)
        for seed in wanted:
            zoo_run = _prepare(plan, of_size, out, data_set, tasks, seed, place)
            runs[zoo_run.zoo.store.root] = zoo_run
    # Seed by seed, so that a run that is stopped has all data sets of its first seeds.
    in_order = sorted(runs.items(), key=lambda of_root: suite.seeds.index(of_root[1].seed))
    pending = {root: zoo_run.steps(suite.ratios) for root, zoo_run in in_order}
    unfinished = {root: len(steps) for root, steps in pending.items()}
    for root in [root for root, steps in pending.items() if not steps]:
        runs[root].collect()
        yield runs[root]
    with closing(workers.run(step, [item for steps in pending.values() for item in steps])) as outcomes:
        for item, crash in outcomes:
            zoo_run = runs[item.store]
            if crash is not None:
                _record_crash(zoo_run, item, crash)
            unfinished[item.store] -= 1
            if not unfinished[item.store]:
                zoo_run.collect()
                _add_seconds(out, time.monotonic() - started)
                started = time.monotonic()
                yield zoo_run


def _record_crash(zoo_run: ZooRun, item: Step, crash: Exception) -> None:
    store = zoo_run.zoo.store
    if item.job is None:
        scores = _missing_scores(len(store.images["test"]), str(crash))
        write_table(_values_file(store, item.baseline), scores)
        return
    zoo_run.zoo.record_crash(item.job, crash)
    for candidate in item.job.candidates:
        write_table(_values_file(store, candidate.id), pd.DataFrame())


def _prepare(
    plan: Plan,
    preset: Preset,
    out: Path,
    data_set: DataSet,
    tasks: list[Task],
    seed: int,
    place: torch.device,
) -> ZooRun:
    candidates = plan.candidates(seed)
    train, test = tasks[0].train, torch.cat([task.test for task in tasks])
    splits = split(len(train), seed)
    pixels = {name: train[getattr(splits, name)] for name in ("train", "validation", "calibration")} | {"test": test}
    store = Store(training_folder(out, data_set.name, seed))
    images = {"train images": train, "test images": test}
    described = {name: set_digest(values) for name, values in images.items()}
    with store.locked():
        baseline = replace(Classifier.settings_for(preset), reduction=plan.image_size // preset.image_size)
        settings = {"candidates": [c.to_json() for c in candidates], "baseline": asdict(baseline), "seed": seed}
        prepare(store, {"settings": settings | described}, pixels, plan.augmentations, seed)
    zoo = Zoo(store, candidates, place)
    return ZooRun(data_set, seed, zoo, views(data_set, tasks), zoo_folder(out, data_set.name, seed))


def views(data_set: DataSet, tasks: list[Task]) -> tuple[View, ...]:
    """Every task of a data set as rows of all test images, one after another; by kind for a data set ``by_kind``."""
    task_views, start = [], 0
    for task in tasks:
        rows = torch.arange(len(task.test))
        kinds = sorted(set(task.kinds) - {""}) if data_set.by_kind and task.kinds else [""]
        for kind in kinds:
            chosen = rows if not kind else torch.tensor([k in ("", kind) for k in task.kinds or ()]).nonzero()[:, 0]
            name = f"{task.name}-{kind}" if kind else task.name
            task_views.append(View(name, data_set.group, kind, start + chosen, task.labels[chosen].long()))
        start += len(task.test)
    return tuple(task_views)


def _begin(suite: Suite, preset: Preset, out: Path, command: str) -> None:
    for folder in (out, *out.glob("zoos/*"), *out.glob("training/*/measured")):
        files.remove_drafts(folder)
    settings = asdict(Classifier.settings_for(preset))
    frozen = json.loads(json.dumps(asdict(suite) | {"settings": settings, "baselines": list(BASELINES)}))
    name, description = frozen.pop("name"), frozen.pop("description")
    if (out / "settings.json").is_file():
        before = load_settings(out)["frozen"]
        grown = [data_set for data_set in frozen["data_sets"] if data_set not in before["data_sets"]]
        if before | {"data_sets": [*before["data_sets"], *grown]} != frozen:
            differ = ", ".join(sorted(key for key in frozen if before.get(key) != frozen[key]))
            raise InputError(str(out), f"has a run with other settings ({differ})", "choose another folder")
        if grown:  # the zoos of one data set do not depend on those of another
            update_settings(out, lambda settings: {"frozen": frozen})
        return
    if out.exists() and any(path.name[0] != "." for path in out.iterdir()):
        raise InputError(str(out), "has other files", "choose a new or an empty folder")
    save_settings(
        out,
        {
            "suite": name,
            "description": description,
            "command": command,
            "commit": str(source_tree()),
            "seconds": 0.0,
            "versions": {"python": platform.python_version()} | {name: installed_version(name) for name in LIBRARIES},
            "tasks": {},
            "frozen": frozen,
        },
    )


def _add_seconds(out: Path, seconds: float) -> None:
    update_settings(out, lambda settings: {"seconds": round(settings["seconds"] + seconds, 1)})
