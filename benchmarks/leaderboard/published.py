"""What others report, to stand beside ours; other data, so levels can't be compared, only orders."""

import pandas as pd

from benchmarks.leaderboard.result import CASE, Result

SOURCE = "Yoo, Zhao, Zhao & Akoglu, ECML PKDD 2023"
DATA = "mean AUC over the 15 classes of MVTec AD and the 6 of MPDD"
# Their names of strategies, and ours.
STRATEGIES = {
    "Avg": "average",
    "Rand": "trained_random",
    "Base": "mean_distance",
    "MMD": "mmd_linear",
    "STD": "negative_std",
    "MC": "mc",
    "SEL": "select",
    "HITS": "hits",
    "DSV": "dsv",
}
AUC = pd.DataFrame.from_dict(
    {
        "CutOut": (0.739, 0.776, 0.741, 0.735, 0.739, 0.749, 0.727, 0.757, 0.813),
        "CutAvg": (0.739, 0.817, 0.721, 0.692, 0.745, 0.751, 0.744, 0.742, 0.806),
        "CutDiff": (0.743, 0.711, 0.739, 0.730, 0.744, 0.747, 0.741, 0.777, 0.811),
        "CutPaste": (0.788, 0.841, 0.694, 0.756, 0.818, 0.862, 0.830, 0.850, 0.884),
    },
    orient="index",
    columns=list(STRATEGIES),
)


def average_ranks() -> pd.Series:
    """The mean place of each published strategy over the four augmentations; 1 is the best, ties share the mean."""
    return AUC.rank(axis=1, ascending=False).mean()


def our_ranks(result: Result) -> pd.Series:
    """The mean place of the same strategies among themselves, by AUROC, over the cases that have every one that ran."""
    chosen = result.rows[result.rows.criterion.isin(list(STRATEGIES.values()))]
    by_case = chosen.pivot_table(index=CASE, columns="criterion", values="auroc").dropna()
    ranks = by_case.rank(axis=1, ascending=False).mean().reindex(list(STRATEGIES.values()))
    return ranks.set_axis(list(STRATEGIES))


def ours(result: Result) -> pd.Series:
    """The mean AUROC of the same strategies over all cases, by their published names; nan for what was not run."""
    means = result.rows.groupby("criterion").auroc.mean().reindex(list(STRATEGIES.values()))
    return means.set_axis(list(STRATEGIES))
