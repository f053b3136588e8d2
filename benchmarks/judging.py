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
from sklearn.metrics import roc_auc_score

from benchmarks.floors import FLOORS
from benchmarks.running import OF_SCORES, read_table
from benchmarks.trials import View
from selector import consensus, criteria
from selector.criteria import probability_above
from selector.ensemble import MEMBERS, rank_average
from selector.evidence import Evidence
from selector.ranking import COLLAPSE_AUROC, Rule, best_first, decide, rule

COLUMNS = ["task", "seed", "anomaly_ratio", "criterion", "auroc", "regret", "rank", "spearman", "reason"]
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
        trained = [name for name in scores.columns if name not in FLOORS]
        views = tuple(
            View(str(task), rows.group.iloc[0], rows.kind.iloc[0], _tensor(rows.row), _tensor(rows.label))
            for task, rows in read_table(folder / "views.parquet").groupby("task", sort=False)
        )
        parts = {part: scores.loc[part, trained] for part in (*PARTS, "test")}
        floors = scores.loc["test", list(FLOORS)]
        return cls(seed, candidates, views, parts, floors, read_table(folder / "criteria.parquet"))

    def trusted(self) -> list[str]:
        """The candidates that were trained and did not collapse."""
        return [i for i in self.scores["test"] if self.proxy_auroc(i) >= COLLAPSE_AUROC]

    def proxy_auroc(self, candidate: str) -> float:
        """How well a candidate's own pseudo anomalies are told from held-out normal images."""
        clean, augmented = (self.part(part, candidate) for part in ("validation", "augmented"))
        return probability_above(clean, augmented).item()

    def part(self, part: str, candidate: str) -> torch.Tensor:
        """The scores (n,) of one part; parts may differ in length between candidates."""
        return torch.tensor(self.scores[part][candidate].dropna().to_numpy(copy=True))

    def values(self, rows: torch.Tensor, of_embeddings: pd.DataFrame, names: list[str]) -> pd.DataFrame:
        """Criteria by candidate in one trial, whose test images are ``rows``, and consensus between them."""
        test = self.scores["test"][names].to_numpy()[rows.numpy()]
        found = {}
        for place, name in enumerate(names):
            parts = {f"{part}_scores": self.part(part, name) for part in PARTS}
            evidence = Evidence(**parts, test_scores=torch.tensor(test[:, place]))
            found[name] = criteria.evaluate(evidence, [c for c in OF_SCORES if evidence.has(criteria.get(c).needs)])
        table = pd.DataFrame(found).T.join(of_embeddings)
        if len(names) > 1:
            families = list(self.candidates.augmentation[names])
            agreed = consensus.evaluate(test, families=families, seed=self.seed)
            table = table.assign(**{name: value.numpy() for name, value in agreed.items()})
        return table


def _tensor(column: pd.Series) -> torch.Tensor:
    return torch.tensor(column.to_numpy(copy=True))


def higher_is_better(name: str) -> bool:
    """Of a criterion or a consensus."""
    return criteria.get(name).higher_is_better if name in criteria.CRITERIA else True


def strategies(values: pd.DataFrame, deciding: Rule) -> dict[str, pd.Series]:
    """By the name in the leaderboard, what is higher for a better candidate: every criterion and consensus, and
    what decides on top of them."""
    signed = {name: values[name] if higher_is_better(name) else -values[name] for name in values}
    ranks = pd.DataFrame(signed).rank(na_option="top")
    order = best_first(values, values, deciding)
    # Ties in the deciding value are broken, so that every row is an order.
    default = pd.Series(np.arange(len(order), 0, -1, dtype=float), order).reindex(values.index)
    aggregated = {"borda": ranks[[name for name in BORDA if name in ranks]].mean(axis=1), "default": default}
    return signed | aggregated


def judge(zoo: Judged, ratios: tuple[float, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The leaderboard's rows of one zoo, and the AUROC of each of its candidates and floors on every task."""
    rows: list[dict[str, Any]] = []
    found = [_aurocs(zoo, view) for view in zoo.views]
    names = zoo.trusted()
    n_validation = len(zoo.scores["validation"])
    for view, table in zip(zoo.views, found, strict=True):
        auroc = table.set_index("candidate").auroc
        trained = auroc.loc[list(zoo.scores["test"])]
        per_trial = []
        kept = zoo.of_embeddings[zoo.of_embeddings.task == view.task]
        kept = kept.set_index(["anomaly_ratio", "trial"]).sort_index()
        for ratio, trial, images in view.trials(ratios, zoo.seed):
            of_trial = kept.loc[(ratio, trial)].pivot(index="candidate", columns="criterion", values="value")
            values = zoo.values(images, of_trial, names)
            per_trial += [
                {"anomaly_ratio": ratio, **row} for row in _trial(zoo, view, values, trained, rule("auto", n_validation))
            ]
        averaged = pd.DataFrame(per_trial).groupby(["anomaly_ratio", "criterion"], sort=False).mean().reset_index()
        rows += averaged.assign(task=view.task, seed=zoo.seed, reason="").to_dict("records")
        floors = [(name, auroc[name], "" if np.isfinite(auroc[name]) else "failed") for name in FLOORS]
        rows += [
            {
                "task": view.task, "seed": zoo.seed, "anomaly_ratio": ratio, "criterion": name, "auroc": value,
                "regret": trained.max() - value, "rank": np.nan, "spearman": np.nan, "reason": reason,
            }
            for ratio in ratios
            for name, value, reason in floors
        ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS), pd.concat(found, ignore_index=True)


def _trial(
    zoo: Judged, view: View, values: pd.DataFrame, trained: pd.Series, deciding: Rule
) -> list[dict[str, Any]]:
    best, places = trained.max(), trained.rank(ascending=False)
    judged = []

    def add(criterion: str, auroc: float, rank: float = np.nan, spearman: float = np.nan) -> None:
        judged.append(
            {"criterion": criterion, "auroc": auroc, "regret": best - auroc, "rank": rank, "spearman": spearman}
        )

    def add_ensemble(criterion: str, members: list[str]) -> None:
        scores = zoo.scores["test"][members].to_numpy()[view.rows.numpy()]
        add(criterion, float(roc_auc_score(view.labels, rank_average(torch.tensor(scores)))))

    add("oracle", best, 1.0, 1.0)
    add("average", trained.mean())
    add("random", trained.mean(), places.mean(), 0.0)
    add_ensemble("ensemble_all", list(values.index))
    for name, order in strategies(values, deciding).items():
        usable = order.replace([np.inf, -np.inf], np.nan).dropna()
        if usable.empty:
            continue
        chosen = usable.idxmax()
        known = usable.corr(trained[usable.index], method="spearman") if usable.nunique() > 1 else 0.0
        add(name, trained[chosen], places[chosen], known)
        if name in ("default",):
            add_ensemble("ensemble", list(order.sort_values(ascending=False, kind="stable").index[:MEMBERS]))
    return judged


def _aurocs(zoo: Judged, view: View) -> pd.DataFrame:
    rows, labels = view.rows.numpy(), view.labels.numpy()
    table = zoo.candidates.reset_index().rename(columns={"id": "candidate"})
    table["hyperparameters"] = table.hyperparameters.map(json.dumps)
    for name in FLOORS:
        table.loc[len(table)] = {"candidate": name, "augmentation": name, "hyperparameters": "{}", "status": "ok", "reason": ""}
    every = zoo.scores["test"].join(zoo.floors)
    scores = every.reindex(columns=table.candidate).to_numpy()[rows]
    finite = np.isfinite(scores).all(0)
    table["auroc"] = [
        roc_auc_score(labels, scores[:, i]) if finite[i] else np.nan for i in range(len(table))
    ]
    collapsed = {i for i in zoo.scores["test"]} - set(zoo.trusted())
    table.loc[table.candidate.isin(collapsed), "status"] = "collapsed"
    return table.assign(task=view.task, seed=zoo.seed)[
        ["task", "seed", "candidate", "augmentation", "hyperparameters", "auroc", "status", "reason"]
    ]
