"""The three files that a benchmark run writes, read and checked."""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from augmentations import InputError
from benchmarks.datasets.registry import family

REMEDY = "name the folder of a finished benchmark run"
CASE = ["task", "seed", "ratio"]
TEXT = ("task", "criterion", "reason", "candidate", "augmentation", "hyperparameters", "status")
LEADERBOARD = ("task", "seed", "anomaly_ratio", "criterion", "auroc", "regret", "rank", "spearman", "reason")
CANDIDATES = ("task", "seed", "candidate", "augmentation", "hyperparameters", "auroc", "status", "reason")


@dataclass(frozen=True, eq=False)
class Result:
    """The results of a benchmark run.

    rows: one row per task, seed, anomaly ratio and criterion, with the file's columns, ``data_set``, ``group`` and
    ``ratio``, the anomaly ratio as text; candidates: one row per task, seed and candidate, with the file's columns and
    ``kind``, "" where the task has none; tasks: one row per task, with data_set, kind, train, test, anomalies, and
    group: what is independent of other groups, the classes of one data set being one.
    """

    rows: pd.DataFrame
    candidates: pd.DataFrame
    tasks: pd.DataFrame
    settings: dict[str, Any]

    @property
    def ratios(self) -> list[str]:
        """The anomaly ratios as text, ascending."""
        return list(dict.fromkeys(self.rows.sort_values("anomaly_ratio").ratio))

    def restrict(self, data_sets: Collection[str]) -> "Result":
        """The same of these data sets only."""
        tasks = self.tasks[self.tasks.data_set.isin(data_sets)]
        rows, candidates = (table[table.task.isin(tasks.index)] for table in (self.rows, self.candidates))
        return replace(self, rows=rows, candidates=candidates, tasks=tasks)


def read(folder: Path) -> Result:
    """Raises InputError, which names the file, where one is missing, unreadable, or not what a benchmark wrote."""
    path = folder / "settings.json"
    settings = _settings(path)
    tasks = _tasks(path, settings)
    rows = _table(folder / "leaderboard.csv", LEADERBOARD)
    candidates = _table(folder / "candidates.csv", CANDIDATES)
    for file, table in (("leaderboard.csv", rows), ("candidates.csv", candidates)):
        if strange := sorted(set(table.task) - set(tasks.index)):
            raise InputError(str(folder / file), f"has tasks that settings.json lacks: {', '.join(strange)}", REMEDY)
    if rows.empty:
        raise InputError(str(folder / "leaderboard.csv"), "has no rows", REMEDY)
    rows["data_set"] = rows.task.map(tasks.data_set)
    rows["group"] = rows.task.map(tasks.group)
    rows["ratio"] = rows.anomaly_ratio.map(_ratio)
    if (again := rows.duplicated([*CASE, "criterion"])).any():
        row = rows[again].iloc[0]
        what = f"has {row.criterion} twice for {row.task}, seed {row.seed}, anomaly ratio {row.ratio}"
        raise InputError(str(folder / "leaderboard.csv"), what, "keep the rows of one run")
    return Result(rows, candidates.assign(kind=candidates.task.map(tasks.kind)), tasks, settings)


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    numeric = [name for name in columns if name not in TEXT]
    blank = {name: ["", "nan", "NaN"] for name in numeric}  # the name "nan" stays a string
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=blank, dtype=dict.fromkeys(TEXT, str))
    except FileNotFoundError as error:
        raise InputError(str(path), "does not exist", REMEDY) from error
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"can't be read as CSV ({error})", REMEDY) from error
    if missing := [name for name in columns if name not in table]:
        raise InputError(str(path), f"lacks the columns {', '.join(missing)}", REMEDY)
    for name in numeric:
        if not (table.empty or pd.api.types.is_numeric_dtype(table[name])):
            raise InputError(str(path), f"has a {name} that is not a number", REMEDY)
    return table


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(str(path), "does not exist", REMEDY) from error
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"can't be read as JSON ({error})", REMEDY) from error
    if not (isinstance(settings, dict) and isinstance(settings.get("suite"), str)):
        raise InputError(str(path), "must be a JSON object that names its suite", REMEDY)
    return settings


def _tasks(path: Path, settings: dict[str, Any]) -> pd.DataFrame:
    tasks = settings.get("tasks")
    if not (isinstance(tasks, dict) and all(isinstance(task, dict) and "data_set" in task for task in tasks.values())):
        raise InputError(str(path), "must have tasks, each with its data_set", REMEDY)
    columns = ["data_set", "kind", "train", "test", "anomalies"]
    table = pd.DataFrame.from_dict(tasks, orient="index").reindex(columns=columns)
    return table.assign(kind=table.kind.where(table.kind.notna(), ""), group=table.data_set.map(family))


def _ratio(value: float) -> str:
    return "as is" if np.isnan(value) else f"{100 * value:g}%"
