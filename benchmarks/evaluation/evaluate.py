"""What the labels say of a suite's zoos: rows of a leaderboard, from what ``running`` kept. Trains nothing.

A case is a task, a seed and an anomaly ratio. In each of its trials every criterion sees the images of that trial and
chooses among the candidates that did not collapse; what it chose is then judged by the AUROC over all of the task's
test images, so that what a trial of few anomalies happens to hold does not blur the truth. A row is the mean over
trials.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from benchmarks.evaluation.ensembles import Pool
from benchmarks.evaluation.label_oracle import FEWEST, half_labels
from benchmarks.suites.baselines import FLOORS
from benchmarks.suites.run import OF_SCORES, change_settings, load_settings, read_table
from benchmarks.tasks.view import View
from detectors import files
from selector import consensus, criteria
from selector.criteria import probability_above
from selector.evidence.evidence import Evidence
from selector.ranking.evaluation import COLLAPSE_AUROC
from selector.ranking.rules import DEFAULT_MEMBERS, Decision, Rule, best_first, resolve_decision
from selector.ranking.shift import shift_test

COLUMNS = ["task", "seed", "anomaly_ratio", "criterion", "auroc", "regret", "rank", "spearman", "reason"]
CANDIDATE_COLUMNS = ["task", "seed", "candidate", "augmentation", "hyperparameters", "auroc", "status", "reason"]
FLOAT = "%.6g"
PARTS = ("validation", "augmented", "pseudo")
Measured = TypeVar("Measured")
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
        """The candidates that were trained, did not collapse and tell validation images from each other."""
        told = [i for i in self.trained if self.part("validation", i).unique().numel() > 1]
        return [i for i in told if self.proxy_auroc(i) >= COLLAPSE_AUROC]

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
        return self._parts[part][candidate]

    def is_shifted(self, rows: torch.Tensor, names: list[str]) -> bool:
        """Whether a trial whose test images are ``rows`` is found not to resemble the validation images."""
        held, test = (torch.tensor(self.scores[part][names].to_numpy(copy=True)) for part in ("validation", "test"))
        return shift_test(held, test[rows]).is_shifted

    def evidence(self, candidate: str) -> Evidence:
        """Every score of a candidate that selection may see, of all images."""
        scores: dict[str, Any] = {f"{part}_scores": self.part(part, candidate) for part in (*PARTS, "test")}
        return Evidence(**scores)

    @cached_property
    def _parts(self) -> dict[str, dict[str, torch.Tensor]]:
        return {
            part: {str(i): torch.tensor(column.dropna().to_numpy(copy=True)) for i, column in table.items()}
            for part, table in self.scores.items()
        }

    def pool(self, view: View, names: list[str]) -> Pool:
        """The named candidates' scores of a task's test images, to be made one."""
        test = self.scores["test"][names].to_numpy()[view.rows.numpy()].T
        normal = {name: self.part("validation", name).mean().item() for name in names}
        return Pool(dict(zip(names, map(torch.tensor, test), strict=True)), normal, view.labels)

    def measure(self, rows: torch.Tensor, names: list[str]) -> pd.DataFrame:
        """Criteria of scores by candidate in a trial whose test images are ``rows``."""
        found = {}
        for name in names:
            evidence = self.evidence(name).subset(test_scores=rows)
            found[name] = criteria.evaluate(evidence, [c for c in OF_SCORES if evidence.has(criteria.get(c).needs)])
        return pd.DataFrame(found).T

    def trials(
        self, view: View, ratios: tuple[float, ...], measured: Callable[[torch.Tensor], Measured]
    ) -> Iterator[tuple[float, int, Measured]]:
        """Ratio, number, and what is ``measured`` of the images of every trial of a task."""
        met: dict[tuple[int, ...], Measured] = {}
        for ratio, trial, images in view.trials(ratios, self.seed):
            same = tuple(images.sort().values.tolist())  # where a ratio takes all images, trials differ in draws only
            if same not in met:
                met[same] = measured(images)
            yield ratio, trial, met[same]

    def values(self, rows: torch.Tensor, names: list[str]) -> pd.DataFrame:
        """Criteria of scores by candidate in a trial whose test images are ``rows``, and consensus between them."""
        table = self.measure(rows, names)
        if len(names) > 1:
            test = self.scores["test"][names].to_numpy()[rows.numpy()]
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
    deciding = resolve_decision("auto", len(zoo.scores["validation"]))
    for view in zoo.views:
        table = aurocs(zoo, view, names)
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
        usable = zoo.scores["test"][trained.index[trained.notna()]].to_numpy()[view.rows.numpy()]
        of_half, lost = half_labels(usable, view.labels, zoo.seed, view.task)
        halves = {"criterion": "half_labels", "auroc": of_half, "regret": lost}
        halves |= {} if np.isfinite(lost) else {"reason": f"no candidate, or fewer than {FEWEST} images of a label"}
        rows += [case | halves | {"anomaly_ratio": ratio} for ratio in ratios]
    return pd.DataFrame(rows, columns=COLUMNS), pd.concat(tables, ignore_index=True)


def _choices(
    zoo: Judged,
    view: View,
    names: list[str],
    trained: pd.Series,
    ratios: tuple[float, ...],
    deciding: Decision,
) -> list[dict[str, Any]]:
    """What every criterion's choice is worth at each ratio, the mean over trials."""
    measured = zoo.of_embeddings[zoo.of_embeddings.task == view.task]
    by_trial = {
        trial: rows.pivot(index="candidate", columns="criterion", values="value")
        for trial, rows in measured.groupby(["anomaly_ratio", "trial"])
    }
    rows, pool = [], zoo.pool(view, names)

    def seen(images: torch.Tensor) -> tuple[pd.DataFrame, bool]:
        return zoo.values(images, names), zoo.is_shifted(images, names)

    for ratio, trial, (of_scores, shifted) in zoo.trials(view, ratios, seen):
        values = of_scores.join(by_trial[ratio, trial])
        rows += [{"anomaly_ratio": ratio, **row} for row in _trial(values, trained, pool, deciding.given(shifted))]
    averaged = pd.DataFrame(rows).groupby(["anomaly_ratio", "criterion"], sort=False).mean()
    return [{str(name): value for name, value in row.items()} for row in averaged.reset_index().to_dict("records")]


def _trial(values: pd.DataFrame, trained: pd.Series, pool: Pool, deciding: Rule) -> list[dict[str, Any]]:
    best, places = trained.max(), trained.rank(ascending=False)
    rows = []

    def add(criterion: str, auroc: float, rank: float = np.nan, spearman: float = np.nan) -> None:
        rows.append(
            {"criterion": criterion, "auroc": auroc, "regret": best - auroc, "rank": rank, "spearman": spearman}
        )

    add("oracle", best, 1.0, 1.0)
    add("average", trained.mean())
    add("random", trained.mean(), places.mean(), 0.0)
    add("highest_all", pool.highest(values.index))
    add("ensemble_all", pool.ranks(values.index))
    auroc, place = (column[values.index].to_numpy() for column in (trained, places))
    for name, order in strategies(values, deciding).items():
        value = order.to_numpy(float)
        usable = np.flatnonzero(np.isfinite(value))
        if len(usable):
            chosen = usable[value[usable].argmax()]
            add(name, auroc[chosen], place[chosen], _spearman(value[usable], auroc[usable]))
        if name == "default":
            members = order.sort_values(ascending=False, kind="stable").index[:DEFAULT_MEMBERS]
            add("ensemble", pool.highest(members))
            add("ensemble_ranks", pool.ranks(members))
    return rows


def _spearman(order: np.ndarray, auroc: np.ndarray) -> float:
    """0 where either is constant: it tells nothing of the other."""
    ranks = [_twice_ranks(values) for values in (order, auroc)]
    if min(np.ptp(ranks[0]), np.ptp(ranks[1])) == 0:
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def _twice_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks but for a constant and a factor, ties sharing the mean; scipy's take far longer for so few values."""
    ordered = np.sort(values)
    return ordered.searchsorted(values, "left") + ordered.searchsorted(values, "right")


def aurocs(zoo: Judged, view: View, trusted: list[str]) -> pd.DataFrame:
    """A row a candidate and floor, with CANDIDATE_COLUMNS; AUROC is nan where a score is not finite."""
    described = zoo.candidates.reset_index(names="candidate")
    described["hyperparameters"] = described.hyperparameters.map(json.dumps)
    collapsed = described.candidate.isin(set(zoo.trained) - set(trusted))
    described.loc[collapsed, "status"] = "collapsed"
    floors = pd.DataFrame({"candidate": list(FLOORS), "augmentation": list(FLOORS), "hyperparameters": "{}"})
    table = pd.concat([described, floors.assign(status="ok", reason="")], ignore_index=True)
    scores = zoo.floors.join(zoo.scores["test"]).reindex(columns=table.candidate).to_numpy()[view.rows.numpy()]
    normal, anomalous = (torch.tensor(scores[view.labels.numpy() == label]).T for label in (0, 1))
    table["auroc"] = [probability_above(*pair).item() for pair in zip(normal, anomalous, strict=True)]
    table.loc[~np.isfinite(scores).all(0), "auroc"] = np.nan
    return table.assign(task=view.task, seed=zoo.seed)[CANDIDATE_COLUMNS]


def zoos(out: Path) -> list[tuple[Path, int]]:
    """Folder and seed of every zoo of a run that is trained."""
    frozen = load_settings(out)["frozen"]
    every = [(out / "zoos" / f"{d['tasks'][0]}-{seed}", seed) for d in frozen["data_sets"] for seed in frozen["seeds"]]
    return [(folder, seed) for folder, seed in every if (folder / "scores.parquet").is_file()]


def judge_folder(folder: Path, seed: int, ratios: tuple[float, ...]) -> None:
    """Judge one zoo and keep the rows beside what they were made of."""
    zoo = Judged.read(folder, seed)
    rows, candidates = judge(zoo, ratios)
    for name, table in (("leaderboard.csv", rows), ("candidates.csv", candidates)):
        files.write_bytes(folder / name, table.to_csv(index=False, float_format=FLOAT).encode())


def merge(out: Path) -> int:
    """Put the rows of all judged zoos together, and the tasks into the settings; returns the number of zoos."""
    judged = [folder for folder, _ in zoos(out) if (folder / "leaderboard.csv").is_file()]
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
