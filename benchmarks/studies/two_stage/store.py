"""The files of the comparison: one Parquet file per training, so that a stopped run is resumed, and one CSV of all.

settings.json               what is compared: suite, kinds, data
rows/<training>.parquet     the rows of one training
results.csv, tables.md      all rows, and the tables made of them
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from augmentations import InputError
from benchmarks.studies.two_stage.measure import COLUMNS, NUMBERS
from benchmarks.suites.definitions import Suite
from benchmarks.suites.files import read_table, save_settings, write_table
from benchmarks.suites.two_stage import Compared
from detectors import files

RESULTS, TABLES, SETTINGS = "results.csv", "tables.md", "settings.json"


def begin(out: Path, suite: Suite, kinds: Mapping[str, Compared]) -> None:
    """Write the settings of a run, or check that they are those of the run that is there.

    Raises:
        InputError: for a folder with another run or with other files.
    """
    data = {data_set.name: [data_set.image_size, data_set.reduced, *data_set.used] for data_set in suite.data_sets}
    described = {"preset": suite.preset, "kinds": {name: asdict(kind) for name, kind in kinds.items()}, "data": data}
    settings = json.loads(json.dumps({"suite": suite.name, **described}))
    path = out / SETTINGS
    if path.is_file():
        before = json.loads(path.read_bytes())
        if before != settings:
            differ = ", ".join(sorted(key for key in settings if before.get(key) != settings[key]))
            raise InputError(str(out), f"has a run with other settings ({differ})", "choose another folder")
    elif out.exists() and any(out.iterdir()):
        raise InputError(str(out), "has other files", "choose a new or an empty folder")
    else:
        save_settings(out, settings)


def rows_file(out: Path, data_set: str, seed: int, contamination: float, kind: str) -> Path:
    """Where the rows of a training are kept."""
    plain = kind.lower().replace(", ", "-").replace(" ", "-")
    return out / "rows" / f"{data_set}_{seed}_{contamination:g}_{plain}.parquet"


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows of one training; the file is whole or absent."""
    write_table(path, pd.DataFrame(rows, columns=list(COLUMNS)))


def load(out: Path) -> pd.DataFrame:
    """All rows so far, with ``COLUMNS``. Raises InputError where there is none."""
    parts = [read_table(path) for path in sorted((out / "rows").glob("*.parquet"))]
    if not parts:
        raise InputError(str(out), "has no rows", "run `ssad benchmark study two-stage` first")
    whole = pd.DataFrame([row for part in parts for row in part.to_dict("records")], columns=list(COLUMNS))
    numbers = {name: pd.to_numeric(whole[name]) for name in NUMBERS}
    return whole.assign(**numbers)


def save_results(out: Path, rows: pd.DataFrame, tables: str) -> None:
    """Write all rows as CSV and the tables as Markdown."""
    files.write_bytes(out / RESULTS, rows.to_csv(index=False, float_format="%.5f").encode())
    files.write_bytes(out / TABLES, tables.encode())
