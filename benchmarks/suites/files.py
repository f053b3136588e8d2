"""The files of a benchmark run: where they lie, Parquet tables and settings.json.

settings.json                       what was run: suite, versions, tasks, frozen settings
training/<data set>-<seed>/         the run folder of a zoo: weights and embeddings; not needed once it is evaluated
zoos/<data set>-<seed>/             a stored zoo:
    candidates.json                 the candidates, with status, reason and seconds
    views.parquet                   which images a task consists of, with their labels: no other file has any
    scores.parquet                  scores, images x candidates
    criteria.parquet                values of the criteria of embeddings, by trial
leaderboard.csv, candidates.csv     the evaluation, rewritten after each zoo
"""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import pandas as pd

from augmentations import InputError
from benchmarks.datasets.registry import family
from detectors import files
from selector import criteria
from selector.evidence.evidence import EMBEDDINGS

# Embeddings are too large to be stored, so values of the criteria that need them are; all others need only scores.
OF_EMBEDDINGS = [name for name in criteria.names() if set(criteria.get(name).needs) & set(EMBEDDINGS)]
OF_SCORES = [name for name in criteria.names() if name not in OF_EMBEDDINGS]
SETTINGS_LOCK = Lock()  # from reading settings.json to writing it


class ZooFolder(NamedTuple):
    """The folder of a stored zoo, its data set, the group that this is independent of others in, and its seed."""

    path: Path
    data_set: str
    group: str
    seed: int


def zoo_folder(out: Path, data_set: str, seed: int) -> Path:
    """Where a run stores the zoo of a data set and a seed."""
    return out / "zoos" / f"{data_set}-{seed}"


def training_folder(out: Path, data_set: str, seed: int) -> Path:
    """Where a run trains the zoo of a data set and a seed."""
    return out / "training" / f"{data_set}-{seed}"


def is_stored(folder: Path) -> bool:
    """Whether the zoo of this folder is complete: ``scores.parquet`` is written last."""
    return (folder / "scores.parquet").is_file()


def stored_zoos(out: Path) -> list[ZooFolder]:
    """The complete zoos of a run, in the order of its data sets, then of its seeds.

    Raises InputError for a folder without settings.json.
    """
    frozen = load_settings(out)["frozen"]
    folders = [
        ZooFolder(zoo_folder(out, data_set["tasks"][0], seed), data_set["tasks"][0], family(data_set["group"]), seed)
        for data_set in frozen["data_sets"]
        for seed in frozen["seeds"]
    ]
    return [folder for folder in folders if is_stored(folder.path)]


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet; the file is whole or absent."""
    buffer = BytesIO()
    table.to_parquet(buffer, index=False, compression="zstd")
    files.write_bytes(path, buffer.getvalue())


def read_table(path: Path) -> pd.DataFrame:
    """Read a table from Parquet.

    Raises InputError where the file is damaged.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"can't be read ({error})", "delete it and run the suite again") from error


def load_settings(out: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises InputError for a folder without settings.json.
    """
    path = out / "settings.json"
    if not path.is_file():
        raise InputError(str(out), "has no settings.json", "name the folder that `ssad benchmark run` wrote")
    return json.loads(path.read_bytes())


def save_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a run; the file is whole or as it was."""
    files.write_bytes(out / "settings.json", json.dumps(settings, indent=1).encode())


def update_settings(out: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Merge ``change(settings)`` into the settings of a run, under a lock: evaluation runs in a thread of its own."""
    with SETTINGS_LOCK:
        settings = load_settings(out)
        save_settings(out, settings | change(settings))
