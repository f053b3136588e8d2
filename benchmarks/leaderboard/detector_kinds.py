"""Which kind of detector is best on which data set, by the labels: whether there is a choice of kinds to make."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

import detectors
from benchmarks.evaluation.always import kind_and_settings
from benchmarks.leaderboard.result import Result
from benchmarks.leaderboard.tables import SCORED_BASELINES


@dataclass(frozen=True, eq=False)
class DetectorKinds:
    """The best of each kind.

    auroc: one row per data set and one column per kind: the AUROC of the candidate of that kind that is best by the
    labels of a task, mean over tasks and seeds. candidates: how many of each kind are in a zoo. trained: the kinds that
    learn; the others fit a scorer to features or pixels as they are.
    """

    auroc: pd.DataFrame
    candidates: Mapping[str, int]
    trained: tuple[str, ...]

    @property
    def best(self) -> pd.Series:
        """The best kind on each data set."""
        return self.auroc.idxmax(axis=1)

    @property
    def gain_of_training(self) -> pd.Series:
        """How far the best kind that learns is ahead of the best one that does not; nan where one is missing."""
        learns = self.auroc.columns.isin(self.trained)
        return self.auroc.loc[:, learns].max(axis=1) - self.auroc.loc[:, ~learns].max(axis=1)


def by_detector_kind(result: Result) -> DetectorKinds | None:
    """The best of each kind by data set; None where all candidates are of one kind, or kinds were not written down."""
    table = result.candidates
    if "detector" not in table:
        return None
    table = table[~table.candidate.isin(SCORED_BASELINES)]
    table = table.assign(
        detector=[kind_and_settings(detector)[0] for detector in table.detector],
        data_set=table.task.map(result.tasks.data_set),
    )
    if table.detector.nunique() < 2:
        return None
    best = table.groupby(["data_set", "task", "seed", "detector"], sort=False).auroc.max()
    auroc = best.groupby(["data_set", "detector"], sort=False).mean().unstack()
    auroc = auroc.loc[table.data_set.unique(), table.detector.unique()]
    sizes = table.groupby(["task", "seed", "detector"]).size().groupby("detector").max()
    return DetectorKinds(auroc, sizes.to_dict(), tuple(kind for kind in auroc if _learns(kind)))


def _learns(kind: str) -> bool:
    """Whether a kind has a training; of one from elsewhere it is assumed."""
    if kind not in detectors.names():
        return True
    known = detectors.get(kind)
    return known.learns_encoder or known.has_pseudo_anomalies()
