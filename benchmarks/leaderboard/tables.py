"""Every number of the leaderboard, as finished tables; drawn elsewhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.evaluation import label_oracle, statistics
from benchmarks.evaluation.always import ALWAYS
from benchmarks.leaderboard import meanings
from benchmarks.leaderboard.result import CASE, Result

WORSE = 0.01  # AUROC below the mean of the candidates that can be chosen from which a choice did harm
MISSING = 0.1  # the share of cases without a value up to which a row can be compared with others
ALPHA = 0.05
NEARLY = 0.01  # AUROC below the best at which an augmentation is as good
SATURATED = 0.98  # AUROC above which a kind of anomaly is too easy to distinguish augmentations
BEST_SHOWN = 12  # in the critical-difference diagram, beside the references
REFERENCES = ("default", "dsv", "mc", "hits", "select")
UNCHOSEN = ("random", "random_members", *ALWAYS, "untrained", "pixels")  # what a choice must beat
BEST_BY_TASK = 4  # in the table by task, beside the references
INTERVALS = ("mean_regret", "median_regret", "mean_auroc")
# Baselines with scores of their own, which stand among the candidates without an augmentation.
SCORED_BASELINES = ("trained_random", "untrained", "pixels")
LEVELS = {"group": "data sets", "task": "tasks", "case": "cases"}


@dataclass(frozen=True, eq=False)
class Ranks:
    """Average ranks by regret of the rows that choose, best first, over ``blocks`` independent units.

    names: the rows shown; bars: groups of these that do not differ significantly.
    """

    average: pd.Series
    blocks: int
    test: statistics.Friedman
    difference: float
    names: tuple[str, ...]
    bars: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class LabelResolvable:
    """On which data sets labels can choose.

    table: one row per data set, with the mean regrets ``half_label_oracle`` and ``average``, and ``label_resolvable``:
    whether labels of half of the images can choose.
    """

    table: pd.DataFrame

    @property
    def names(self) -> list[str]:
        """Those where labels can choose."""
        return list(self.table.index[self.table.label_resolvable])

    @property
    def others(self) -> list[str]:
        """Those where they can't."""
        return list(self.table.index[~self.table.label_resolvable])

    @property
    def is_known(self) -> bool:
        """Whether the run has the row ``half_label_oracle``."""
        return bool(self.table.half_label_oracle.notna().any())

    @property
    def is_mixed(self) -> bool:
        """Whether there are data sets of both sorts, so that a table of the label-resolvable ones differs."""
        return bool(self.names and self.others)


@dataclass(frozen=True, eq=False)
class ByTask:
    """The AUROC of each choice at one anomaly ratio, one row per data set and task and one column per criterion.

    mean: over seeds; spread: the standard deviation over them, nan for a single seed.
    """

    ratio: str
    mean: pd.DataFrame
    spread: pd.DataFrame


@dataclass(frozen=True, eq=False)
class ByKind:
    """Mean AUROC, one row per augmentation and one column per kind of anomaly.

    shift: the same minus the untrained encoder's; saturated: the kinds that every augmentation finds.
    """

    auroc: pd.DataFrame
    shift: pd.DataFrame
    saturated: tuple[str, ...]

    @property
    def farthest(self) -> float:
        """The largest gain or loss, over the kinds that are kept."""
        return float(np.nanmax(self.shift.drop(columns=list(self.saturated)).abs().to_numpy(), initial=0.0))


def choosing(result: Result) -> list[str]:
    """The names of the rows that choose a candidate."""
    names = result.rows[result.rows["rank"].notna()].criterion.unique()
    return [name for name in names if meanings.kind(name) != "baseline"]


def cases(result: Result) -> int:
    """How many cases there are: a task, a seed and an anomaly ratio."""
    return len(result.rows[CASE].drop_duplicates())


def level(result: Result) -> str:
    """What intervals and tests take as independent: the coarsest of group, task and case of which there are two.

    Kinds of defects share normal images, the classes of one data set their test images, and cases of a task candidates
    as well: only groups are independent. Where they are too few for a test to reject anything, it rejects nothing.
    """
    for name in ("group", "task"):
        if result.rows[name].nunique() >= 2:
            return name
    return "case"


def blocks(result: Result, names: Sequence[str]) -> pd.DataFrame:
    """The regret (n,k) of the named rows, cases averaged over each of what is independent.

    Rows without a value in more than MISSING of the cases are left out, then cases that one of the others lacks.
    """
    table = wide(result, "regret").reindex(columns=list(names))
    complete = table.loc[:, table.isna().mean() <= MISSING].dropna()
    by = level(result)
    if by == "case":
        return complete
    tasks = complete.index.get_level_values("task")
    return complete.groupby(tasks if by == "task" else result.tasks.group[tasks].to_numpy()).mean()


def summary(result: Result) -> pd.DataFrame:
    """One row per criterion, least mean regret first and those without any last; indexed by its name."""
    average = _average_ranks(blocks(result, choosing(result)))
    tests = against_default(result)
    p_values = pd.Series(dtype=float) if tests is None else tests.set_index("first").p_holm
    cluster = level(result)
    at_random = wide(result, "auroc").reindex(columns=["random"])["random"]
    rows = {}
    for name, part in result.rows.groupby("criterion", sort=False):
        has_value = part.dropna(subset=["auroc", "regret"])
        values = {"mean_regret": has_value.regret, "median_regret": has_value.regret, "mean_auroc": has_value.auroc}
        row: dict[str, object] = {"kind": meanings.kind(str(name)), "cases": len(has_value)}
        row["failed"] = int((part.reason != "").sum())
        for measure, column in values.items():
            statistic = np.median if measure == "median_regret" else np.mean
            row[measure] = float(statistic(column)) if len(column) else np.nan
            groups = None if cluster == "case" else has_value[cluster]
            row[f"{measure}_low"], row[f"{measure}_high"] = interval(column, groups, statistic)
        gap = (at_random - has_value.set_index(CASE).auroc).dropna()
        row["average_rank"] = average.get(name, np.nan)
        row["place_in_zoo"] = part["rank"].mean()
        row["worse_than_mean"] = float((gap > WORSE).mean()) if len(gap) else np.nan
        row["mean_spearman"] = part.spearman.mean()
        row["seed_spread"] = has_value.groupby(["task", "ratio"]).regret.std().mean()
        row["p_holm"] = p_values.get(name, np.nan)
        by_ratio = has_value.groupby("ratio").regret.mean()
        rows[name] = row | {f"regret_at_{ratio}": by_ratio.get(ratio, np.nan) for ratio in result.ratios}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("criterion")
    return table.sort_values("mean_regret", kind="stable")


def label_resolvable(result: Result) -> LabelResolvable:
    """Where labels of half of the images choose well."""
    return LabelResolvable(label_oracle.label_resolvable(result.rows))


def comparable(result: Result, table: pd.DataFrame) -> list[str]:
    """The rows of a summary that choose a candidate in all but MISSING of the cases, least mean regret first."""
    enough = table.index[table.cases >= (1 - MISSING) * cases(result)]
    return [name for name in enough if name in choosing(result)]


def ranks(result: Result) -> Ranks | None:
    """The comparison by ranks, or None where fewer than three rows or two blocks can be compared.

    All rows that choose are ranked and tested together; only then are some picked to be shown.
    """
    table = blocks(result, choosing(result))
    if len(table) < 2 or table.shape[1] < 3:
        return None
    average = statistics.average_ranks(table, higher_is_better=False).sort_values(kind="stable")
    difference = statistics.critical_difference(table.shape[1], len(table), ALPHA)
    shown = [name for i, name in enumerate(average.index) if i < BEST_SHOWN or name in REFERENCES]
    bars = statistics.cliques(average[shown], difference)
    return Ranks(average, len(table), statistics.friedman(table), difference, tuple(shown), tuple(bars))


def against_default(result: Result) -> pd.DataFrame | None:
    """Wilcoxon's test of every row's regret against default's, least regret first; None where it can't be made."""
    # The first has no regret, the second can't be chosen, the third is evaluated on other images.
    idle = ("oracle", "average", "half_label_oracle")
    table = blocks(result, [name for name in result.rows.criterion.unique() if name not in idle])
    if "default" not in table or len(table) < 2 or table.shape[1] < 2:
        return None
    return statistics.wilcoxon_holm(table, "default").sort_values("median_difference", kind="stable")


def by_task(result: Result, table: pd.DataFrame) -> list[ByTask]:
    """One table per anomaly ratio, of the best rows of a summary, the references and the baselines."""
    best = comparable(result, table)[:BEST_BY_TASK]
    wanted = ("oracle", *dict.fromkeys([*best, *REFERENCES]), "ensemble", *UNCHOSEN)
    columns = [name for name in wanted if name in table.index]
    of_ratios = []
    for ratio in result.ratios:
        part = result.rows[result.rows.ratio == ratio]
        groups = part.groupby(["data_set", "task", "criterion"]).auroc
        mean, spread = (values.unstack().reindex(columns=columns) for values in (groups.mean(), groups.std()))
        of_ratios.append(ByTask(ratio, mean, spread))
    return of_ratios


def by_kind(result: Result) -> ByKind | None:
    """Augmentations against kinds of anomalies, or None where no task is of one kind.

    The augmentation that made a kind, where one has its name, should detect it best; where an augmentation is worse
    than an untrained encoder, training has made the encoder blind to that kind.
    Source: Yoo, Zhao & Akoglu, "Data Augmentation is a Hyperparameter", TMLR 2023; Ye, Chen & Zheng,
    "Understanding the Effect of Bias in Deep Anomaly Detection", IJCAI 2021.
    """
    table = result.candidates[(result.candidates.kind != "") & result.candidates.auroc.notna()]
    trained = table[~table.augmentation.isin(SCORED_BASELINES)]
    if trained.empty:
        return None
    untrained = table[table.augmentation == "untrained"].groupby("task").auroc.mean()
    shifted = trained.assign(auroc=trained.auroc - trained.task.map(untrained))
    auroc, shift = (_augmentation_by_kind(part) for part in (table, shifted))
    augmentations = auroc.drop(index=list(SCORED_BASELINES), errors="ignore")
    rows = [*augmentations.index, *(name for name in SCORED_BASELINES if name in auroc.index)]
    saturated = tuple(augmentations.columns[(augmentations > SATURATED).all()])
    return ByKind(auroc.loc[rows], shift.dropna(how="all"), saturated)


@dataclass(frozen=True, eq=False)
class Alignment:
    """The controlled testbed.

    table: one row per data set and generator, means over seeds: ``matching``, the AUROC of the augmentation that made
    the anomalies; ``other``, the best of the rest, and ``best_other``, its AUROC; ``untrained``; ``hit``, whether
    matching is best or nearly so; ``left_out``, whether all are at the ceiling.
    """

    table: pd.DataFrame

    @property
    def compared(self) -> pd.DataFrame:
        """The rows that are not left out."""
        return self.table[~self.table.left_out]

    @property
    def hits(self) -> float:
        """The share of generators whose own augmentation is best or nearly so."""
        return float(self.compared.hit.mean())

    @property
    def gain(self) -> float:
        """The mean AUROC of the matching augmentation above an untrained encoder."""
        return float((self.compared.matching - self.compared.untrained).mean())


def alignment(result: Result) -> Alignment | None:
    """Whether the augmentation that made the anomalies finds them best; None where none of a zoo's did.

    Source: Yoo, Zhao & Akoglu, "Data Augmentation is a Hyperparameter", TMLR 2023.
    """
    table = result.candidates[result.candidates.auroc.notna()]
    generators = set(table.kind) & set(table.augmentation) - {""}
    rows = []
    of_known = table[table.kind.isin(generators)]
    for task, rows_of_task in of_known.groupby("task", sort=False):
        auroc = rows_of_task.groupby("augmentation").auroc.mean()
        trained, kind = auroc.drop(list(SCORED_BASELINES), errors="ignore"), rows_of_task.kind.iloc[0]
        if kind not in trained or len(trained) < 2:
            continue
        others = trained.drop(kind)
        rows.append(
            {
                "data_set": result.tasks.data_set[task],
                "generator": kind,
                "matching": trained[kind],
                "other": others.idxmax(),
                "best_other": others.max(),
                "untrained": auroc.get("untrained", np.nan),
                "hit": trained[kind] >= others.max() - NEARLY,
                "left_out": bool((trained > SATURATED).all()),
            }
        )
    return Alignment(pd.DataFrame(rows)) if rows else None


def failures(result: Result) -> pd.DataFrame:
    """What failed: one row per name and reason, with how often and where it first did; the most frequent first."""
    rows = result.rows[result.rows.reason != ""]
    candidates = result.candidates[(result.candidates.status != "ok") | (result.candidates.reason != "")]
    where = rows.task + ", seed " + rows.seed.astype(str) + ", ratio " + rows.ratio
    place = candidates.task + ", seed " + candidates.seed.astype(str)
    parts = [
        pd.DataFrame({"what": rows.criterion, "status": "failed", "reason": rows.reason, "where": where}),
        pd.DataFrame(
            {
                "what": candidates.augmentation + " " + candidates.hyperparameters,
                "status": candidates.status,
                "reason": candidates.reason,
                "where": place,
            }
        ),
    ]
    grouped = pd.concat(parts).groupby(["what", "status", "reason"], sort=False)["where"]
    return grouped.agg(times="size", first="first").reset_index().sort_values("times", ascending=False, kind="stable")


def wide(result: Result, value: str) -> pd.DataFrame:
    """A column of the rows: one row per case and one column per criterion."""
    return result.rows.pivot(index=CASE, columns="criterion", values=value)


def _average_ranks(table: pd.DataFrame) -> pd.Series:
    if table.shape[0] < 1 or table.shape[1] < 2:
        return pd.Series(dtype=float)
    return statistics.average_ranks(table, higher_is_better=False)


def interval(
    values: pd.Series, groups: pd.Series | None, statistic: Callable[..., np.ndarray] = np.mean
) -> tuple[float, float]:
    """The bootstrap interval; nan for fewer than two groups."""
    independent = len(values) if groups is None else groups.nunique()
    return statistics.bootstrap(values, groups, statistic) if independent >= 2 else (np.nan, np.nan)


def _augmentation_by_kind(table: pd.DataFrame) -> pd.DataFrame:
    return table.groupby(["augmentation", "kind"]).auroc.mean().unstack()
