"""What the labels say of a suite's zoos: rows of a leaderboard, from what ``running`` kept. Trains nothing.

A case is a task, a seed and an anomaly ratio. In each of its trials every criterion sees the images of that trial and
chooses among the candidates that did not collapse; what it chose is then judged by the AUROC over all of the task's
test images, so that what a trial of few anomalies happens to hold does not blur the truth. A row is the mean over
trials.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from benchmarks.floors import FLOORS
from benchmarks.running import OF_SCORES, change_settings, load_settings, read_table
from benchmarks.trials import View
from detectors import files
from selector import consensus, criteria
from selector.criteria import probability_above
from selector.ensemble import MEMBERS, rank_average
from selector.evidence import Evidence
from selector.ranking import COLLAPSE_AUROC, Rule, best_first, rule

COLUMNS = ["task", "seed", "anomaly_ratio", "criterion", "auroc", "regret", "rank", "spearman", "reason"]
CANDIDATE_COLUMNS = ["task", "seed", "candidate", "augmentation", "hyperparameters", "auroc", "status", "reason"]
FLOAT = "%.6g"
PARTS = ("validation", "augmented", "pseudo")
# Among the strongest label-free aggregates of the literature: a published criterion, a consensus, a validation.
BORDA = ("dsv", "hits", "pseudo_auc")


@dataclass(frozen=True, eq=False)
class Judged:
    """One zoo as ``running`` left it; scores: by part, a row an image and a column a candidate that was trained."""

    seed: int
    candidates: pd.DataFrame
    views: tuple[View, ...]
    scores: Mapping[str, pd.DataFrame]
    floors: pd.DataFrame
    of_embeddings: pd.DataFrame

    @classmethod
    def read(cls, folder: Path, seed: int) -> "Judged":
        """Raises InputError where a file is damaged."""
        candidates = pd.DataFrame(json.loads((folder / "candidates.json").read_bytes())).set_index("id")
        scores = read_table(folder / "scores.parquet").set_index(["part", "row"])
        trained = scores.columns.drop(list(FLOORS))
        by_task = read_table(folder / "views.parquet").groupby("task", sort=False)
        views = tuple(View.of(rows) for _, rows in by_task)
        parts = {
            part: scores[trained].query("part == @part").droplevel("part") for part in (*PARTS, "calibration", "test")
        }
        floors = scores[list(FLOORS)].query("part == 'test'").droplevel("part")
        return cls(seed, candidates, views, parts, floors, read_table(folder / "criteria.parquet"))

    def trusted(self) -> list[str]:
        """The candidates that were trained and did not collapse."""
        return [i for i in self.trained if self.proxy_auroc(i) >= COLLAPSE_AUROC]

    @property
    def trained(self) -> list[str]:
        """The candidates that have scores."""
        return [str(i) for i in self.scores["test"]]

    def proxy_auroc(self, candidate: str) -> float:
        """How well a candidate's own pseudo anomalies are told from held-out normal images."""
        clean, augmented = (self.part(part, candidate) for part in ("validation", "augmented"))
        return probability_above(clean, augmented).item()

    def part(self, part: str, candidate: str) -> torch.Tensor:
        """The scores (n,) of one part; parts may differ in length between candidates."""
        return torch.tensor(self.scores[part][candidate].dropna().to_numpy(copy=True))

    def values(self, rows: torch.Tensor, names: list[str]) -> pd.DataFrame:
        """Criteria of scores by candidate in a trial whose test images are ``rows``, and consensus between them."""
        test = self.scores["test"][names].to_numpy()[rows.numpy()]
        found = {}
        for place, name in enumerate(names):
            v, u, b = (self.part(part, name) for part in PARTS)
            t = torch.tensor(test[:, place])
            evidence = Evidence(validation_scores=v, augmented_scores=u, pseudo_scores=b, test_scores=t)
            found[name] = criteria.evaluate(evidence, [c for c in OF_SCORES if evidence.has(criteria.get(c).needs)])
        table = pd.DataFrame(found).T
        if len(names) > 1:
            families = list(self.candidates.augmentation[names])
            agreed = consensus.evaluate(test, families=families, seed=self.seed)
            table = table.assign(**{name: value.numpy() for name, value in agreed.items()})
        return table


def higher_is_better(name: str) -> bool:
    """Of a criterion or a consensus."""
    return criteria.get(name).higher_is_better if name in criteria.CRITERIA else True


def strategies(values: pd.DataFrame, deciding: Rule) -> dict[str, pd.Series]:
    """By the name in the leaderboard, what is higher for a better candidate: every criterion and consensus, and
    what decides on top of them."""
    signed = {str(name): column if higher_is_better(str(name)) else -column for name, column in values.items()}
    ranks = pd.DataFrame(signed).rank(na_option="top")
    order = best_first(values, values, deciding)
    # Ties in the deciding value are broken, so that every row is an order.
    default = pd.Series(np.arange(len(order), 0, -1, dtype=float), order).reindex(values.index)
    aggregated = {"borda": ranks[[name for name in BORDA if name in ranks]].mean(axis=1), "default": default}
    return signed | aggregated


def judge(zoo: Judged, ratios: tuple[float, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The leaderboard's rows of one zoo, and the AUROC of each of its candidates and floors on every task."""
    rows: list[dict[str, Any]] = []
    tables = []
    names = zoo.trusted()
    deciding = rule("auto", len(zoo.scores["validation"]))
    for view in zoo.views:
        table = _aurocs(zoo, view, names)
        tables.append(table)
        auroc = table.set_index("candidate").auroc
        trained = auroc[zoo.trained]
        case = {"task": view.task, "seed": zoo.seed, "reason": ""}
        if names:
            rows += [case | row for row in _choices(zoo, view, names, trained, ratios, deciding)]
        else:
            nobody = {"criterion": "default", "reason": "no candidate was trained without collapsing"}
            rows += [case | nobody | {"anomaly_ratio": ratio} for ratio in ratios]
        for name in FLOORS:
            floor = {"criterion": name, "auroc": auroc[name], "regret": trained.max() - auroc[name]}
            floor |= {} if np.isfinite(auroc[name]) else {"reason": "its scores are not finite"}
            rows += [case | floor | {"anomaly_ratio": ratio} for ratio in ratios]
    return pd.DataFrame(rows, columns=COLUMNS), pd.concat(tables, ignore_index=True)


def _choices(
    zoo: Judged, view: View, names: list[str], trained: pd.Series, ratios: tuple[float, ...], deciding: Rule
) -> list[dict[str, Any]]:
    """What every criterion's choice is worth at each ratio, the mean over trials."""
    measured = zoo.of_embeddings[zoo.of_embeddings.task == view.task]
    by_trial = {
        trial: rows.pivot(index="candidate", columns="criterion", values="value")
        for trial, rows in measured.groupby(["anomaly_ratio", "trial"])
    }
    rows, met = [], {}
    for ratio, trial, images in view.trials(ratios, zoo.seed):
        same = tuple(images.sort().values.tolist())  # where a ratio takes all images, its trials differ in draws only
        if same not in met:
            met[same] = zoo.values(images, names)
        values = met[same].join(by_trial[ratio, trial])
        rows += [{"anomaly_ratio": ratio, **row} for row in _trial(zoo, view, values, trained, deciding)]
    averaged = pd.DataFrame(rows).groupby(["anomaly_ratio", "criterion"], sort=False).mean()
    return [{str(name): value for name, value in row.items()} for row in averaged.reset_index().to_dict("records")]


def _trial(zoo: Judged, view: View, values: pd.DataFrame, trained: pd.Series, deciding: Rule) -> list[dict[str, Any]]:
    best, places = trained.max(), trained.rank(ascending=False)
    rows = []

    def add(criterion: str, auroc: float, rank: float = np.nan, spearman: float = np.nan) -> None:
        rows.append(
            {"criterion": criterion, "auroc": auroc, "regret": best - auroc, "rank": rank, "spearman": spearman}
        )

    def add_ensemble(criterion: str, members: list[str]) -> None:
        scores = zoo.scores["test"][members].to_numpy()[view.rows.numpy()]
        score = rank_average(torch.tensor(scores))
        add(criterion, probability_above(score[view.labels == 0], score[view.labels == 1]).item())

    add("oracle", best, 1.0, 1.0)
    add("average", trained.mean())
    add("random", trained.mean(), places.mean(), 0.0)
    add_ensemble("ensemble_all", list(values.index))
    auroc, place = (column[values.index].to_numpy() for column in (trained, places))
    for name, order in strategies(values, deciding).items():
        value = order.to_numpy(float)
        usable = np.flatnonzero(np.isfinite(value))
        if len(usable):
            chosen = usable[value[usable].argmax()]
            add(name, auroc[chosen], place[chosen], _spearman(value[usable], auroc[usable]))
        if name == "default":
            add_ensemble("ensemble", list(order.sort_values(ascending=False, kind="stable").index[:MEMBERS]))
    return rows


def _spearman(order: np.ndarray, auroc: np.ndarray) -> float:
    """0 where either is constant: it tells nothing of the other."""
    ranks = [rankdata(values) for values in (order, auroc)]
    if min(np.ptp(ranks[0]), np.ptp(ranks[1])) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def _aurocs(zoo: Judged, view: View, trusted: list[str]) -> pd.DataFrame:
    described = zoo.candidates.reset_index(names="candidate")
    described["hyperparameters"] = described.hyperparameters.map(json.dumps)
    collapsed = described.candidate.isin(set(zoo.trained) - set(trusted))
    described.loc[collapsed, "status"] = "collapsed"
    floors = pd.DataFrame({"candidate": list(FLOORS), "augmentation": list(FLOORS), "hyperparameters": "{}"})
    table = pd.concat([described, floors.assign(status="ok", reason="")], ignore_index=True)
    scores = zoo.floors.join(zoo.scores["test"]).reindex(columns=table.candidate).to_numpy()[view.rows.numpy()]
    usable = np.isfinite(scores).all(0)
    table["auroc"] = [roc_auc_score(view.labels, s) if ok else np.nan for s, ok in zip(scores.T, usable, strict=True)]
    return table.assign(task=view.task, seed=zoo.seed)[CANDIDATE_COLUMNS]


def judge_folder(folder: Path, seed: int, ratios: tuple[float, ...]) -> None:
    """Judge one zoo and keep the rows beside what they were made of."""
    zoo = Judged.read(folder, seed)
    rows, candidates = judge(zoo, ratios)
    for name, table in (("leaderboard.csv", rows), ("candidates.csv", candidates)):
        files.write_bytes(folder / name, table.to_csv(index=False, float_format=FLOAT).encode())


def merge(out: Path) -> int:
    """Put the rows of all judged zoos together, and the tasks into the settings; returns the number of zoos."""
    frozen = load_settings(out)["frozen"]
    judged = [
        folder
        for data_set in frozen["data_sets"]
        for seed in frozen["seeds"]
        if (folder := out / "zoos" / f"{data_set['tasks'][0]}-{seed}").joinpath("leaderboard.csv").is_file()
    ]
    for name in ("leaderboard.csv", "candidates.csv"):
        parts = [(folder / name).read_text("utf-8").partition("\n") for folder in judged]
        if parts:
            files.write_bytes(out / name, (parts[0][0] + "\n" + "".join(rows for _, _, rows in parts)).encode())
    tasks: dict[str, Any] = {}
    for folder in judged:
        for task, rows in read_table(folder / "views.parquet").groupby("task", sort=False):
            group, kind, train = rows.iloc[0][["group", "kind", "train"]]
            counts = {"train": int(train), "test": len(rows), "anomalies": int(rows.label.sum())}
            tasks[str(task)] = {"data_set": group, "kind": kind or None, **counts}
    change_settings(out, lambda kept: {"tasks": tasks})
    return len(judged)
