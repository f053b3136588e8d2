"""The evaluation of stored zoos with labels: the rows of a leaderboard. Trains nothing.

A case is a task, a seed and an anomaly ratio. In each of its trials every criterion sees the images of that trial and
chooses among the candidates that did not collapse. The choice is evaluated by its AUROC over all of the task's test
images, so that the few anomalies of one trial add no noise. A row is the mean over trials.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from augmentations.randomness import generator
from benchmarks.evaluation.always import ALWAYS, always_taken
from benchmarks.evaluation.ensembles import Ensembles
from benchmarks.evaluation.label_oracle import FEWEST, half_label_oracle
from benchmarks.evaluation.stored_zoo import StoredZoo, aurocs
from benchmarks.suites.baselines import BASELINES
from benchmarks.suites.files import read_table, stored_zoos, update_settings
from benchmarks.tasks.view import View
from detectors import files
from detectors.ensemble import MAX
from selector import criteria
from selector.ranking.rules import Decision, Rule, best_first, chosen_members, default_members, resolve_decision

COLUMNS = ["task", "seed", "anomaly_ratio", "criterion", "auroc", "regret", "rank", "spearman", "reason"]
FLOAT = "%.6g"
# Among the strongest label-free aggregates of the literature: a published criterion, a consensus, a validation.
BORDA = ("dsv", "hits", "pseudo_auc")


def higher_is_better(name: str) -> bool:
    """Of a criterion or a consensus."""
    return criteria.get(name).higher_is_better if name in criteria.CRITERIA else True


def strategies(values: pd.DataFrame, deciding: Rule) -> dict[str, pd.Series]:
    """Values that are higher for a better candidate, by the name in the leaderboard.

    They are those of every criterion and consensus, and of the rules that combine them.
    """
    signed = {str(name): column if higher_is_better(str(name)) else -column for name, column in values.items()}
    ranks = pd.DataFrame(signed).rank(na_option="top")
    order = best_first(values, values, deciding)
    # Ties in the deciding value are broken, so that every row is an order.
    default = pd.Series(np.arange(len(order), 0, -1, dtype=float), order).reindex(values.index)
    aggregated = {"borda": ranks[[name for name in BORDA if name in ranks]].mean(axis=1), "default": default}
    return signed | aggregated


def evaluate(zoo: StoredZoo, ratios: tuple[float, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The leaderboard's rows of one zoo, and the AUROC of each of its candidates and baselines on every task."""
    rows: list[dict[str, Any]] = []
    tables = []
    names = zoo.trusted()
    deciding = resolve_decision("auto", len(zoo.scores["validation"]))
    for view in zoo.views:
        table = aurocs(zoo, view, names)
        tables.append(table)
        auroc = table.set_index("candidate").auroc
        trained = auroc[zoo.trained]
        case = {"task": view.task, "seed": zoo.seed, "reason": ""}
        same = [*_baselines(zoo, auroc, trained), _half_label_oracle(zoo, view, trained)]
        if names:
            ensembles = zoo.ensembles(view, names)
            same += _unchosen(zoo, view, ensembles, trained)
            rows += [case | row for row in _choices(zoo, view, ensembles, trained, ratios, deciding)]
        else:
            same.append({"criterion": "default", "reason": "no candidate was trained without collapsing"})
        rows += [case | row | {"anomaly_ratio": ratio} for row in same for ratio in ratios]
    return pd.DataFrame(rows, columns=COLUMNS), pd.concat(tables, ignore_index=True)


def _baselines(zoo: StoredZoo, auroc: pd.Series, trained: pd.Series) -> list[dict[str, Any]]:
    """What is trained beside the zoo, and the candidates of it that need no choice."""
    always = {row: candidate for row in ALWAYS if (candidate := always_taken(row, zoo.candidates)) is not None}
    places = trained.rank(ascending=False)
    rows = []
    for name, scored in {**{name: name for name in BASELINES}, **always}.items():
        row = _row(name, auroc[scored], trained, places.get(scored, np.nan))
        rows.append(row if np.isfinite(row["auroc"]) else row | {"reason": "its scores are not finite"})
    return rows


def _half_label_oracle(zoo: StoredZoo, view: View, trained: pd.Series) -> dict[str, Any]:
    usable = zoo.scores["test"][trained.index[trained.notna()]].to_numpy()[view.rows.numpy()]
    auroc, regret = half_label_oracle(usable, view.labels, zoo.seed, view.task)
    row = {"criterion": "half_label_oracle", "auroc": auroc, "regret": regret}
    if np.isfinite(regret):
        return row
    return row | {"reason": f"no candidate, or fewer than {FEWEST} images of a label"}


def _unchosen(zoo: StoredZoo, view: View, ensembles: Ensembles, trained: pd.Series) -> list[dict[str, Any]]:
    """What the zoo is worth without a choice: at its best, on average, at random and as a whole."""
    names, places = list(ensembles.scores), trained.rank(ascending=False)
    n_members = default_members(zoo.kinds[names].nunique())
    at_random = ensembles.random_members(n_members, generator(zoo.seed, "random members", view.task))
    return [
        _row("oracle", trained.max(), trained, 1.0, 1.0),
        _row("average", trained.mean(), trained),
        _row("random", trained[names].mean(), trained, places[names].mean(), 0.0),
        _row("random_members", at_random, trained),
        _row("max_all", ensembles.normalized(names, MAX), trained),
        _row("mean_rank_all", ensembles.mean_rank(names), trained),
    ]


def _row(
    criterion: str, auroc: float, trained: pd.Series, rank: float = np.nan, spearman: float = np.nan
) -> dict[str, Any]:
    return {
        "criterion": criterion,
        "auroc": auroc,
        "regret": trained.max() - auroc,
        "rank": rank,
        "spearman": spearman,
    }


def _choices(
    zoo: StoredZoo,
    view: View,
    ensembles: Ensembles,
    trained: pd.Series,
    ratios: tuple[float, ...],
    deciding: Decision,
) -> list[dict[str, Any]]:
    """The results of every criterion's choice at each ratio, the mean over trials."""
    names = list(ensembles.scores)
    by_trial = zoo.embedding_criteria(view.task)
    rows = []
    n_kinds = zoo.kinds[names].nunique()

    def values_and_shift(images: torch.Tensor) -> tuple[pd.DataFrame, bool]:
        return zoo.values(images, names), zoo.is_shifted(images)

    for ratio, trial, (of_scores, shifted) in zoo.trials(view, ratios, values_and_shift):
        values = of_scores.join(by_trial[ratio, trial])
        chosen = _trial(values, trained, ensembles, n_kinds, deciding.given(shifted, n_kinds))
        rows += [{"anomaly_ratio": ratio, **row} for row in chosen]
    averaged = pd.DataFrame(rows).groupby(["anomaly_ratio", "criterion"], sort=False).mean()
    return [{str(name): value for name, value in row.items()} for row in averaged.reset_index().to_dict("records")]


def _trial(
    values: pd.DataFrame, trained: pd.Series, ensembles: Ensembles, n_kinds: int, deciding: Rule
) -> list[dict[str, Any]]:
    auroc, place = (column[values.index].to_numpy() for column in (trained, trained.rank(ascending=False)))
    rows = []
    for name, order in strategies(values, deciding).items():
        value = order.to_numpy(float)
        usable = np.flatnonzero(np.isfinite(value))
        if len(usable):
            chosen = usable[value[usable].argmax()]
            rows.append(_row(name, auroc[chosen], trained, place[chosen], _spearman(value[usable], auroc[usable])))
        if name == "default":
            ranked = values.loc[order.sort_values(ascending=False, kind="stable").index].rename_axis("candidate")
            table = ranked.reset_index().assign(status="ok")
            members = chosen_members(table, default_members(n_kinds), deciding.complement)
            rows.append(_row("ensemble", ensembles.normalized(members), trained))
            rows.append(_row("ensemble_ranks", ensembles.mean_rank(members), trained))
    return rows


def _spearman(order: np.ndarray, auroc: np.ndarray) -> float:
    """0 where either is constant."""
    ranks = [_twice_ranks(values) for values in (order, auroc)]
    if min(np.ptp(ranks[0]), np.ptp(ranks[1])) == 0:
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def _twice_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks but for a constant and a factor, ties sharing the mean; scipy's take far longer for so few values."""
    ordered = np.sort(values)
    return ordered.searchsorted(values, "left") + ordered.searchsorted(values, "right")


def evaluate_folder(folder: Path, seed: int, ratios: tuple[float, ...]) -> None:
    """Evaluate one zoo and write its rows beside it, ``leaderboard.csv`` last: where it exists, they are complete."""
    zoo = StoredZoo.read(folder, seed)
    rows, candidates = evaluate(zoo, ratios)
    for name, table in (("candidates.csv", candidates), ("leaderboard.csv", rows)):
        files.write_bytes(folder / name, table.to_csv(index=False, float_format=FLOAT).encode())


def merge(out: Path) -> int:
    """Join the rows of all evaluated zoos, and add the tasks to the settings; returns the number of zoos."""
    evaluated = [folder.path for folder in stored_zoos(out) if (folder.path / "leaderboard.csv").is_file()]
    for name in ("leaderboard.csv", "candidates.csv"):
        parts = [(folder / name).read_text("utf-8").partition("\n") for folder in evaluated]
        if parts:
            files.write_bytes(out / name, (parts[0][0] + "\n" + "".join(rows for _, _, rows in parts)).encode())
    tasks: dict[str, Any] = {}
    for folder in evaluated:
        for task, rows in read_table(folder / "views.parquet").groupby("task", sort=False):
            group, kind, train = rows.iloc[0][["group", "kind", "train"]]
            counts = {"train": int(train), "test": len(rows), "anomalies": int(rows.label.sum())}
            tasks[str(task)] = {"data_set": group, "kind": kind or None, **counts}
    update_settings(out, lambda settings: {"tasks": tasks})
    return len(evaluated)
