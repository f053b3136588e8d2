"""The curves of a run as files: numbers, tables and figures."""

from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from augmentations import InputError
from benchmarks.evaluation.evaluate import Judged
from benchmarks.leaderboard import text
from benchmarks.studies.learning_curves.figures import FIGURES, figure
from benchmarks.studies.learning_curves.regrets import OF_TRIALS, measure, summarise
from benchmarks.suites.run import load_settings
from detectors import files

FLOAT = "%.4f"


def write(out: Path, to: Path) -> Path:
    """Measure the curves of the zoos that a run kept and write curves.csv, curves.md and an SVG a curve into ``to``.

    Returns the path of curves.csv. Raises InputError where the run has no zoo that was judged.
    """
    table = summarise(collect(out))
    written = {"curves.csv": table.to_csv(index=False, float_format=FLOAT), "curves.md": markdown(table)}
    written |= {f"{name}.svg": str(figure(table, name)) for name in FIGURES}
    for name, whole in written.items():
        files.write_bytes(to / name, whole.encode())
    return to / "curves.csv"


def collect(out: Path) -> pd.DataFrame:
    """``measure`` of every zoo of a run, and what its leaderboard knows of criteria of embeddings."""
    frozen = load_settings(out)["frozen"]
    zoos = [
        (out / "zoos" / f"{data['tasks'][0]}-{seed}", seed) for data in frozen["data_sets"] for seed in frozen["seeds"]
    ]
    judged = [(folder, seed) for folder, seed in zoos if (folder / "scores.parquet").is_file()]
    if not judged or not (out / "leaderboard.csv").is_file():
        raise InputError(str(out), "holds no zoo that was judged", "name the folder of a finished `ssad benchmark run`")
    rows = pd.concat(Parallel(n_jobs=-1)(delayed(_measure_folder)(folder, seed) for folder, seed in judged))
    kept = pd.read_csv(out / "leaderboard.csv")
    kept = kept[kept.criterion.isin(OF_TRIALS)].rename(columns={"criterion": "chosen_by", "anomaly_ratio": "at"})
    group = rows.drop_duplicates("task").set_index("task").group
    kept = kept.assign(curve="ratio", group=kept.task.map(group), reached=True)[kept.task.isin(group.index)]
    return pd.concat([rows, kept[[name for name in kept if name in rows]]], ignore_index=True)


def _measure_folder(folder: Path, seed: int) -> pd.DataFrame:
    return measure(Judged.read(folder, seed))


def markdown(table: pd.DataFrame) -> str:
    """A table a curve: the regrets of all that choose, and how far the default's lies below a random pick's."""
    lines = []
    for curve, rows in table.groupby("curve", sort=False):
        names = list(dict.fromkeys(rows.chosen_by))
        regrets = rows.pivot(index="at", columns="chosen_by", values="regret")
        default = rows[rows.chosen_by == "default"].set_index("at")
        head = [FIGURES[curve].heading if curve in FIGURES else curve, "tasks", *names, "default gains on random"]
        lines += [_row(head), "|--" + "|--:" * (len(head) - 1) + "|"]
        for at, row in default.iterrows():
            gain = f"{row.gain:.3f} ({text.decimals(row.gain_low)} to {text.decimals(row.gain_high)})"
            lines.append(_row([f"{at:.3g}", f"{row.tasks}", *(text.decimals(regrets[n][at]) for n in names), gain]))
        lines.append("")
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
