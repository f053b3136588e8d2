"""What is claimed of the two-stage family, and whether a run shows it. "Not reproduced" is a result.

Source: Sohn, Li, Yoon, Jin & Pfister, ICLR 2021, and their slides.
"""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from benchmarks.studies.two_stage.measure import ONE_CLASS, SEMI_SUPERVISED

HEAD, NO_HEAD, DA, PLAIN = "rotation, MLP head", "rotation, no head", "contrastive DA", "contrastive"
PIXELS, UNTRAINED = "pixels", "untrained"
CONTAMINATED = 0.1  # of the train images
LEAST_LOSS = 0.03  # AUROC that contamination costs nearest neighbours
CASE = ["data_set", "seed"]


class Pair(NamedTuple):
    """Two numbers of the same trainings, (n,) each: the claim is that the first are higher, by ``margin`` at least."""

    first: pd.Series
    second: pd.Series
    margin: float = 0.0


def of(
    rows: pd.DataFrame,
    kind: str,
    scorer: str,
    ratio: float = 0.0,
    protocol: str = ONE_CLASS,
    column: str = "auroc",
) -> pd.Series:
    """A column by data set and seed."""
    chosen = rows[(rows.kind == kind) & (rows.scorer == scorer) & (rows.contamination == ratio)]
    return chosen[chosen.protocol == protocol].set_index(CASE)[column].dropna()


def _loss(rows: pd.DataFrame, scorer: str) -> pd.Series:
    """AUROC lost to contamination, by kind, data set and seed; of kinds that learn."""
    learned = rows[(rows.protocol == ONE_CLASS) & (rows.scorer == scorer) & (rows.steps > 0)]
    at = ["kind", *CASE]
    clean, dirty = (learned[learned.contamination == ratio].set_index(at).auroc for ratio in (0.0, CONTAMINATED))
    return (clean - dirty).dropna()


def _rbf(rows: pd.DataFrame) -> pd.Series:
    return of(rows, HEAD, "kde").combine(of(rows, HEAD, "ocsvm"), min).dropna()


def _gain(rows: pd.DataFrame, head: bool) -> Pair:
    kind = HEAD if head else NO_HEAD
    return Pair(of(rows, kind, "kde"), of(rows, NO_HEAD, "kde" if head else "own"))


def _few(rows: pd.DataFrame, kind: str, ratio: float) -> pd.Series:
    return of(rows, kind, "kde", ratio, SEMI_SUPERVISED)


def _fall(rows: pd.DataFrame, kind: str) -> pd.Series:
    return (of(rows, kind, "kde") - of(rows, kind, "kde", CONTAMINATED)).dropna()


CLAIMS: dict[str, Callable[[pd.DataFrame], Pair]] = {
    "rotation + KDE above pixels + KDE": lambda r: Pair(of(r, HEAD, "kde"), of(r, PIXELS, "kde")),
    "contrastive DA + KDE above pixels + KDE": lambda r: Pair(of(r, DA, "kde"), of(r, PIXELS, "kde")),
    "pixels + KDE above untrained + KDE": lambda r: Pair(of(r, PIXELS, "kde"), of(r, UNTRAINED, "kde")),
    "behind an MLP head, both RBF scorers above the linear machine": lambda r: Pair(
        _rbf(r), of(r, HEAD, "ocsvm_linear")
    ),
    "distribution augmentation: features less uniform": lambda r: Pair(
        of(r, DA, "kde", column="uniformity"), of(r, PLAIN, "kde", column="uniformity")
    ),
    "distribution augmentation: the head's outputs less uniform": lambda r: Pair(
        of(r, DA, "kde", column="head_uniformity"), of(r, PLAIN, "kde", column="head_uniformity")
    ),
    "distribution augmentation above plain, KDE": lambda r: Pair(of(r, DA, "kde"), of(r, PLAIN, "kde")),
    "10% anomalies cost 1-nearest-neighbour scores more than KDE": lambda r: Pair(_loss(r, "knn"), _loss(r, "kde")),
    f"they cost it {LEAST_LOSS} at least": lambda r: Pair(_loss(r, "knn"), 0 * _loss(r, "knn"), LEAST_LOSS),
    "with 50 labeled images, plain contrastive training on 10% above that on 0%": lambda r: Pair(
        _few(r, PLAIN, CONTAMINATED), _few(r, PLAIN, 0.0)
    ),
    "the MLP head helps rotation, KDE": lambda r: _gain(r, head=True),
    "KDE on features above the classifier's own score, no head": lambda r: _gain(r, head=False),
    "rotation loses less to 10% anomalies than contrastive, KDE": lambda r: Pair(_fall(r, PLAIN), _fall(r, HEAD)),
    "with 50 labeled images, contrastive above rotation (0%), KDE": lambda r: Pair(
        _few(r, PLAIN, 0.0), _few(r, HEAD, 0.0)
    ),
}


def claims(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per claim: both means, over the trainings that have both numbers, their count, and whether it shows."""
    table = []
    for claim, compare in CLAIMS.items():
        first, second, margin = compare(rows)
        both = pd.concat([first.rename("first"), second.rename("second")], axis=1).dropna()
        if both.empty:
            table.append((claim, "", "", "0", "not run"))
            continue
        left, right = both["first"].mean(), both["second"].mean()
        verdict = "yes" if left > right and left >= right + margin else "not reproduced"
        table.append((claim, f"{left:.3f}", f"{right:.3f}", str(len(both)), verdict))
    return pd.DataFrame(table, columns=["claim", "first", "second", "pairs", "shown"])
