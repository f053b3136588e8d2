"""What the recommended ensemble gains on choosing nothing, case by case."""

from dataclasses import dataclass

import pandas as pd

from benchmarks.evaluation.always import ALWAYS
from benchmarks.leaderboard import tables
from benchmarks.leaderboard.result import CASE, Result

RECOMMENDED = "ensemble"
AGAINST = ("always_frozen", "random_members")
FAR = 0.02  # AUROC below the best that needs no training from which zoo and choice did harm
ALL_RATIOS = "all"


@dataclass(frozen=True, eq=False)
class Gains:
    """The AUROC of the recommended ensemble minus that of rows that choose nothing.

    table: one row per anomaly ratio, the last over all, and row of AGAINST: ``ratio``, ``against``, ``gain``, the mean
    over cases, ``low`` and ``high``, the ends of its 95% interval, ``ahead``, the data sets with a gain above 0, and
    ``data_sets``, how many there are. far_below: by ratio, the data sets on which it is more than FAR below the best
    row of ALWAYS; None where the zoo lacks one of these.
    """

    table: pd.DataFrame
    far_below: dict[str, list[str]] | None

    @property
    def against(self) -> list[str]:
        """The rows of AGAINST that the run has."""
        return list(self.table.against.unique())

    @property
    def ratios(self) -> list[str]:
        """The anomaly ratios, and ALL_RATIOS."""
        return list(self.table.ratio.unique())

    def of(self, ratio: str, against: str) -> pd.Series:
        """One row of the table."""
        return self.table[(self.table.ratio == ratio) & (self.table.against == against)].iloc[0]


def gains(result: Result) -> Gains | None:
    """The gains of a run; None where it lacks the ensemble or all that it is compared with.

    Intervals resample what those of the summary do. A case without one of both values is left out.
    """
    auroc = tables.wide(result, "auroc")
    known = [name for name in AGAINST if name in auroc]
    if RECOMMENDED not in auroc or not known:
        return None
    of_case = result.rows.drop_duplicates(CASE).assign(case=lambda rows: range(len(rows))).set_index(CASE, drop=False)
    cluster = tables.level(result)
    rows = []
    for ratio in (*result.ratios, ALL_RATIOS):
        part = _at(auroc, ratio)
        for name in known:
            gain = (part[RECOMMENDED] - part[name]).dropna()
            low, high = tables.interval(gain, of_case.loc[gain.index, cluster])
            of_data_set = gain.groupby(of_case.loc[gain.index, "data_set"]).mean()
            counts = {"ahead": int((of_data_set > 0).sum()), "data_sets": len(of_data_set)}
            rows.append({"ratio": ratio, "against": name, "gain": gain.mean(), "low": low, "high": high} | counts)
    if not set(ALWAYS) <= set(auroc):
        return Gains(pd.DataFrame(rows), None)
    far = {ratio: _far_below(_at(auroc, ratio), of_case.data_set) for ratio in (*result.ratios, ALL_RATIOS)}
    return Gains(pd.DataFrame(rows), far)


def _at(auroc: pd.DataFrame, ratio: str) -> pd.DataFrame:
    return auroc if ratio == ALL_RATIOS else auroc[auroc.index.get_level_values("ratio") == ratio]


def _far_below(auroc: pd.DataFrame, data_set: pd.Series) -> list[str]:
    means = auroc[[RECOMMENDED, *ALWAYS]].groupby(data_set[auroc.index], sort=False).mean()
    return list(means.index[means[RECOMMENDED] < means[list(ALWAYS)].max(axis=1) - FAR])
