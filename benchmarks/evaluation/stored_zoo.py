"""A zoo as a benchmark run stored it: scores by candidate, and the labels of its tasks."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from benchmarks.datasets.registry import family
from benchmarks.evaluation import judgements
from benchmarks.evaluation.ensembles import Ensembles
from benchmarks.suites.baselines import BASELINES
from benchmarks.suites.files import OF_SCORES, read_table
from benchmarks.tasks.view import View
from selector import consensus, criteria
from selector.criteria import probability_above
from selector.evidence.evidence import Evidence
from selector.ranking.comparisons import COMPARISONS
from selector.ranking.evaluation import COLLAPSE_AUROC, comparable_scores
from selector.ranking.shift import shift_test

CANDIDATE_COLUMNS = [
    *("task", "seed", "candidate", "detector", "scorer", "augmentation", "hyperparameters", "auroc", "status", "reason")
]
# What zoos were made of when nothing else could be trained, so that it was not written down.
CLASSIFIERS = {"detector": "classifier", "scorer": "gaussian", "score_is_distance": True}
PARTS = ("validation", "augmented", "pseudo")
Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class StoredZoo:
    """One zoo: a data set and a seed.

    Args:
        seed: of the zoo.
        candidates: one row per candidate, by id: detector, scorer, augmentation, hyperparameters, status, reason, and
            score_is_distance.
        views: the tasks, with their labels.
        scores: by part (validation, augmented, pseudo, calibration, test), one row per image and one column per
            candidate that was trained; those of pseudo have their family as a level of the index.
        baselines: scores of the test images, one column per baseline.
        of_embeddings: values of the criteria of embeddings, by task, anomaly ratio, trial and candidate.
    """

    seed: int
    candidates: pd.DataFrame
    views: tuple[View, ...]
    scores: Mapping[str, pd.DataFrame]
    baselines: pd.DataFrame
    of_embeddings: pd.DataFrame

    def __post_init__(self) -> None:
        known = {name: value for name, value in CLASSIFIERS.items() if name not in self.candidates}
        object.__setattr__(self, "candidates", self.candidates.assign(**known))

    @classmethod
    def read(cls, folder: Path, seed: int) -> "StoredZoo":
        """The stored zoo of a folder.

        Raises InputError where a file is damaged, and for held-out data before their judgement is recorded.
        """
        table = read_table(folder / "views.parquet")
        judgements.require(table.group, folder)
        candidates = pd.DataFrame(json.loads((folder / "candidates.json").read_bytes())).set_index("id")
        scores = read_table(folder / "scores.parquet")
        if "family" not in scores:  # of zoos that were stored before it was written down
            scores = scores.assign(family="")
        scores = scores.set_index(["part", "family", "row"])
        trained = scores.columns.drop(list(BASELINES))
        by_task = table.assign(group=table.group.map(family)).groupby("task", sort=False)
        views = tuple(View.of(rows) for _, rows in by_task)
        parts = {
            part: scores[trained].query("part == @part").droplevel("part") for part in (*PARTS, "calibration", "test")
        }
        parts = {part: table if part == "pseudo" else table.droplevel("family") for part, table in parts.items()}
        baselines = scores[list(BASELINES)].query("part == 'test'").droplevel(["part", "family"])
        return cls(seed, candidates, views, parts, baselines, read_table(folder / "criteria.parquet"))

    def trusted(self) -> list[str]:
        """The candidates that were trained, did not collapse, and do not give all validation images one score."""
        varying = [i for i in self.trained if self.part("validation", i).unique().numel() > 1]
        return [i for i in varying if not self.part("augmented", i).numel() or self.proxy_auroc(i) >= COLLAPSE_AUROC]

    @property
    def trained(self) -> list[str]:
        """The candidates that have scores."""
        return [str(i) for i in self.scores["test"]]

    def proxy_auroc(self, candidate: str) -> float:
        """The AUROC of a candidate's own pseudo anomalies against held-out normal images."""
        clean, augmented = (self.part(part, candidate) for part in ("validation", "augmented"))
        return probability_above(clean, augmented).item()

    def part(self, part: str, candidate: str) -> torch.Tensor:
        """The scores (n,) of one part; parts may differ in length between candidates."""
        return self._parts[part][candidate]

    def is_shifted(self, rows: torch.Tensor) -> bool:
        """Whether a shift is found between the validation images and the test images ``rows`` of a trial."""
        if isinstance(self.compared, str):
            return False
        validation, test = self.compared
        return shift_test(validation, test[rows]).is_shifted

    @cached_property
    def compared(self) -> tuple[torch.Tensor, torch.Tensor] | str:
        """The validation (h,c) and test scores (k,c) by which a shift is tested, of all candidates; or why not."""
        return comparable_scores([self.evidence(name)] for name in self.trained)

    def evidence(self, candidate: str) -> Evidence:
        """Every score of a candidate that selection may see, of all images."""
        parts = {part: self.part(part, candidate) for part in (*PARTS, "test")}
        scores: dict[str, Any] = {f"{part}_scores": values for part, values in parts.items() if len(values)}
        index = self.scores["pseudo"][candidate].dropna().index
        families = index.unique("family") if "family" in index.names else ()  # zoos of one kind may not say
        is_distance = bool(self.candidates.score_is_distance[candidate])
        return Evidence(**scores, score_is_distance=is_distance, pseudo_families=tuple(filter(None, families)))

    @property
    def kinds(self) -> pd.Series:
        """The kind of each candidate, whatever its settings."""
        return self.candidates.detector.str.partition(" (")[0]

    @cached_property
    def _parts(self) -> dict[str, dict[str, torch.Tensor]]:
        return {
            part: {str(i): torch.tensor(column.dropna().to_numpy(copy=True)) for i, column in table.items()}
            for part, table in self.scores.items()
        }

    def ensembles(self, view: View, names: list[str]) -> Ensembles:
        """What ensembles of the named candidates score on a task."""
        test = self.scores["test"][names].to_numpy()[view.rows.numpy()].T
        validation = {name: self.part("validation", name) for name in names}
        distances = frozenset(name for name in names if self.evidence(name).score_is_distance)
        # Zoos that were stored before this was written are of classifiers under one scorer.
        kinds = {name: str(self.candidates.loc[name].get("kind_of_scores", "")) for name in names}
        scores = dict(zip(names, map(torch.tensor, test), strict=True))
        return Ensembles(scores, validation, distances, kinds, view.labels)

    def embedding_criteria(self, task: str) -> dict[tuple[float, int], pd.DataFrame]:
        """Criteria of embeddings by anomaly ratio and trial of a task: one row per candidate."""
        rows = self.of_embeddings[self.of_embeddings.task == task]
        return {
            (float(ratio), int(trial)): values.pivot(index="candidate", columns="criterion", values="value")
            for (ratio, trial), values in rows.groupby(["anomaly_ratio", "trial"])
        }

    def score_criteria(self, rows: torch.Tensor, names: list[str]) -> pd.DataFrame:
        """Criteria of scores in a trial whose test images are ``rows``: one row per candidate."""
        values = {}
        for name in names:
            evidence = self.evidence(name).subset(test_scores=rows)
            values[name] = criteria.evaluate(evidence, [c for c in OF_SCORES if evidence.has(criteria.get(c).needs)])
        return pd.DataFrame(values).T

    def trials(
        self, view: View, ratios: tuple[float, ...], function: Callable[[torch.Tensor], Value]
    ) -> Iterator[tuple[float, int, Value]]:
        """Ratio, number, and ``function`` of the test images of every trial of a task."""
        known: dict[tuple[int, ...], Value] = {}
        for ratio, trial, images in view.trials(ratios, self.seed):
            same = tuple(images.sort().values.tolist())  # where a ratio takes all images, trials differ in draws only
            if same not in known:
                known[same] = function(images)
            yield ratio, trial, known[same]

    def values(self, rows: torch.Tensor, names: list[str]) -> pd.DataFrame:
        """Criteria of scores, comparisons across kinds, and consensus in a trial whose test images are ``rows``: one
        row per candidate."""
        table = self.score_criteria(rows, names)
        kinds = list(self.kinds[names])
        if len(set(kinds)) > 1:
            evidence = [self.evidence(name).subset(test_scores=rows) for name in names]
            for comparison in COMPARISONS.values():
                if all(each.has(comparison.needs) for each in evidence):
                    table[comparison.name] = comparison([comparison.read(each) for each in evidence], kinds)
        if len(names) > 1:
            test = self.scores["test"][names].to_numpy()[rows.numpy()]
            families = list(self.candidates.augmentation[names])
            consensus_values = consensus.evaluate(test, families=families, seed=self.seed)
            table = table.assign(**{name: value.numpy() for name, value in consensus_values.items()})
        return table


def aurocs(zoo: StoredZoo, view: View, trusted: list[str]) -> pd.DataFrame:
    """One row per candidate and baseline, with CANDIDATE_COLUMNS; AUROC is nan where a score is not finite."""
    described = zoo.candidates.reset_index(names="candidate")
    described["hyperparameters"] = described.hyperparameters.map(json.dumps)
    collapsed = described.candidate.isin(set(zoo.trained) - set(trusted))
    described.loc[collapsed, "status"] = "collapsed"
    baselines = pd.DataFrame({name: list(BASELINES) for name in ("candidate", "detector", "augmentation")})
    baselines = baselines.assign(scorer="gaussian", hyperparameters="{}", status="ok", reason="")
    table = pd.concat([described, baselines], ignore_index=True)
    scores = zoo.baselines.join(zoo.scores["test"]).reindex(columns=table.candidate).to_numpy()[view.rows.numpy()]
    normal, anomalous = (torch.tensor(scores[view.labels.numpy() == label]).T for label in (0, 1))
    table["auroc"] = [probability_above(*pair).item() for pair in zip(normal, anomalous, strict=True)]
    table.loc[~np.isfinite(scores).all(0), "auroc"] = np.nan
    return table.assign(task=view.task, seed=zoo.seed)[CANDIDATE_COLUMNS]
