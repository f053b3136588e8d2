"""The learning curves of a run as files: numbers, tables and figures."""

from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from augmentations import InputError
from benchmarks.evaluation.stored_zoo import StoredZoo
from benchmarks.leaderboard import text
from benchmarks.leaderboard.markdown import markdown_table
from benchmarks.studies.learning_curves.figures import FIGURES, figure
from benchmarks.studies.learning_curves.regrets import OF_TRIALS, measure_regrets, summarise
from benchmarks.suites.files import stored_zoos
from detectors import files

FLOAT = "%.4f"


def write(out: Path, to: Path) -> Path:
    """Measure the learning curves of a run's stored zoos, and write curves.csv, curves.md and one SVG per curve.

    Args:
        out: folder of the run.
        to: folder to write to.

    Returns:
        The path of curves.csv.

    Raises:
        InputError: for a run without an evaluated zoo.
    """
    table = summarise(collect(out))
    written = {"curves.csv": table.to_csv(index=False, float_format=FLOAT), "curves.md": markdown(table)}
    written |= {f"{name}.svg": str(figure(table, name)) for name in FIGURES}
    for name, whole in written.items():
        files.write_bytes(to / name, whole.encode())
    return to / "curves.csv"


def collect(out: Path) -> pd.DataFrame:
    """``measure_regrets`` of every zoo of a run, and the rows of its leaderboard for criteria of embeddings."""
    zoos = stored_zoos(out)
    if not zoos or not (out / "leaderboard.csv").is_file():
        raise InputError(str(out), "has no evaluated zoo", "name the folder of a finished `ssad benchmark run`")
    rows = pd.concat(Parallel(n_jobs=-1)(delayed(_measure_folder)(zoo.path, zoo.seed) for zoo in zoos))
    board = pd.read_csv(out / "leaderboard.csv")
    board = board[board.criterion.isin(OF_TRIALS)].rename(columns={"criterion": "chosen_by", "anomaly_ratio": "at"})
    group = rows.drop_duplicates("task").set_index("task").group
    board = board.assign(curve="ratio", group=board.task.map(group), reached=True)[board.task.isin(group.index)]
    return pd.concat([rows, board[[name for name in board if name in rows]]], ignore_index=True)


def _measure_folder(folder: Path, seed: int) -> pd.DataFrame:
    return measure_regrets(StoredZoo.read(folder, seed))


def markdown(table: pd.DataFrame) -> str:
    """One table per curve: the regrets of every choice, and the gain of the default on a random pick."""
    tables = []
    for curve, rows in table.groupby("curve", sort=False):
        regrets = rows.pivot(index="at", columns="chosen_by", values="regret")[list(dict.fromkeys(rows.chosen_by))]
        default = rows[rows.chosen_by == "default"].set_index("at")
        heading = FIGURES[curve].heading if curve in FIGURES else curve
        cells = {heading: [f"{at:.3g}" for at in default.index], "tasks": [f"{n}" for n in default.tasks]}
        cells |= {str(name): [text.decimals(value) for value in regrets[name][default.index]] for name in regrets}
        cells["default gains on random"] = [
            f"{row.gain:.3f} ({text.decimals(row.gain_low)} to {text.decimals(row.gain_high)})"
            for row in default.itertuples()
        ]
        tables.append(markdown_table(pd.DataFrame(cells)))
    return "\n\n".join(tables) + "\n"
