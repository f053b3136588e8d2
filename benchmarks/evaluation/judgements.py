"""Judgements of the held-out suite: whoever evaluates it leaves a row in judgements.csv, before there is any result.

A suite that was looked at is no longer held out: choices follow what it said, and its figures flatter them. The rows
say how often that was, at which state of the code and by which rule.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from augmentations import InputError
from benchmarks.suites.definitions import HELD_OUT, SUITES
from benchmarks.suites.files import load_settings
from benchmarks.suites.source_tree import SourceTree, source_tree
from detectors import files
from selector.ranking.rules import DEFAULT_MEMBERS, DEFAULT_MEMBERS_ACROSS_KINDS, MIN_IMAGES_FOR_NPD, resolve_decision
from selector.zoo.disk import disk_errors

RESULTS = Path(__file__).parents[1] / "results"
COLUMNS = ["date", "commit", "changes", "judged", "rule"]


def judgements_file(suite: str) -> Path:
    """Where the judgements of a suite are recorded, wherever it was run."""
    return RESULTS / suite / "judgements.csv"


def read(suite: str) -> pd.DataFrame:
    """The judgements of a suite.

    Returns:
        One row per judgement, in their order: date (UTC), commit, changes (``dirty``, with a digest of the code that
        was not committed, or ``clean``), judged (by which command) and rule.
    """
    path = judgements_file(suite)
    return pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else pd.DataFrame(columns=COLUMNS)


def is_held_out(groups: Iterable[str]) -> bool:
    """Whether one of these groups of data sets, as ``DataSet.group``, is of the held-out suite."""
    return not {data_set.group for data_set in SUITES[HELD_OUT].data_sets}.isdisjoint(groups)


def record(out: Path, judged: str) -> None:
    """Record the judgement that is about to be made of a run, where its data is held out, or was.

    Args:
        out: folder of the run.
        judged: the command that judges.

    Raises:
        StorageError: where the row can't be written.
    """
    suite = _recorded(load_settings(out))
    if suite is None:
        return
    path, code = judgements_file(suite), source_tree()
    row = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": code.commit,
        "changes": _changes(code),
        "judged": judged,
        "rule": rule_in_words(),
    }
    table = pd.concat([read(suite), pd.DataFrame([row])], ignore_index=True)
    with disk_errors(path.parent, kept="nothing was evaluated"):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = StringIO()
        table.to_csv(text, columns=COLUMNS, index=False, lineterminator="\n")
        files.write_bytes(path, text.getvalue().encode())
    print(f"judgement    {len(table)}, {path}", flush=True)


def _recorded(settings: Mapping[str, Any]) -> str | None:
    """Under which suite a judgement of a run is recorded: the held-out one by its data, one that was by its name."""
    if is_held_out(data_set["group"] for data_set in settings["frozen"]["data_sets"]):
        return HELD_OUT
    return settings["suite"] if judgements_file(settings["suite"]).is_file() else None


def require(groups: Iterable[str], zoo: Path) -> None:
    """Refuse to read the labels of held-out data before this state of the code has a row.

    Args:
        groups: of the data sets, as ``DataSet.group``.
        zoo: folder of the stored zoo that has them.

    Raises:
        InputError: there is no such row.
    """
    if not is_held_out(groups):
        return
    code, known = source_tree(), read(HELD_OUT)
    if not ((known.commit == code.commit) & (known.changes == _changes(code))).any():
        raise InputError(
            str(zoo),
            f"is held out, and {judgements_file(HELD_OUT)} has no row of a judgement by the code as it is",
            "run `ssad benchmark evaluate`, which writes one, when the choice is final",
        )


def _changes(code: SourceTree) -> str:
    return f"dirty {code.changes}" if code.changes else "clean"


def rule_in_words() -> str:
    """What decides where nothing is named."""
    decision = resolve_decision("auto", MIN_IMAGES_FOR_NPD)
    across_kinds = f"{decision.across_kinds.describe()}, {DEFAULT_MEMBERS_ACROSS_KINDS} members"
    if complement := decision.across_kinds.complement:
        across_kinds += f", every second one by {complement.name}"
    return (
        f"{decision.normal.describe()}; under shift {decision.under_shift.describe()}; "
        f"ensemble of {DEFAULT_MEMBERS} members; across kinds {across_kinds}"
    )


def said(suite: str) -> str:
    """How often a suite that is or was held out has been judged; "" for any other."""
    if suite not in SUITES or not judgements_file(suite).is_file():
        return ""
    n = len(read(suite))
    return f"Judged {n} time{'s' * (n != 1)}: judgements.csv has the dates, the code and the rules."
