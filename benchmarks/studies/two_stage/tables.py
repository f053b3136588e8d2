"""The tables of the comparison: kinds by scorers, beside published numbers, and what the slides claim."""

from collections.abc import Iterator, Sequence

import pandas as pd

from benchmarks.leaderboard import published_two_stage as published
from benchmarks.leaderboard.markdown import markdown_table
from benchmarks.studies.two_stage.claims import claims
from benchmarks.studies.two_stage.measure import ONE_CLASS, OWN, SEMI_SUPERVISED
from benchmarks.suites.two_stage import SCORERS

NONE = "\N{EN DASH}"
SHOWN = (*SCORERS, OWN)
PIXELS = {"pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
DIAGNOSTICS = {
    "uniformity": "uniformity",
    "head_uniformity": "uniformity of the head's outputs",
    "proxy_accuracy": "accuracy in the proxy task",
    "steps": "steps",
    "seconds": "seconds",
}


def markdown(rows: pd.DataFrame) -> str:
    """All tables as Markdown, with a line above each."""
    whole = rows[rows.auroc.notna()].assign(family=rows.data_set.map(published.family))
    return "\n\n".join(part for table in _all(whole, rows) for part in table) + "\n"


def _all(rows: pd.DataFrame, with_failures: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for (family, ratio, protocol), part in rows.groupby(["family", "contamination", "protocol"]):
        title = f"{family}, {ratio:.0%} of the train images anomalous, {_scored_by(protocol)}: mean AUROC over classes"
        yield title, markdown_table(by_scorer(part, "auroc"))
        for column, name in PIXELS.items():
            if part[column].notna().any():
                yield title.replace("AUROC", name), markdown_table(by_scorer(part, column))
    yield (
        f"Published beside ours. Published: {published.SOURCE}; linear and RBF machines: {published.SOURCE_SCORERS}; "
        "larger networks, all images, and trainings hundreds of times as long",
        markdown_table(beside(rows)),
    )
    yield f"Published, all data sets: {published.SOURCE}", markdown_table(_published(published.AUROC))
    yield f"Published, one-class machines: {published.SOURCE_SCORERS}", markdown_table(_published(published.BY_SCORER))
    cutpaste = published.CUTPASTE.rename_axis("trained on").reset_index()
    yield f"Published: {published.SOURCE_CUTPASTE}", markdown_table(_text(cutpaste))
    yield "Diagnostics, without labels: means over classes and seeds, no contamination", markdown_table(diagnosed(rows))
    if (rows.contamination > 0).any():
        yield (
            "What contamination costs: AUROC without it less AUROC with it, mean over the same classes and seeds",
            markdown_table(losses(rows)),
        )
    yield "What is claimed of the family, and what was seen", markdown_table(claims(rows))
    failed = with_failures[with_failures.auroc.isna()][["data_set", "seed", "kind", "reason"]]
    if len(failed):
        yield "Trainings that failed", markdown_table(failed.astype(str).replace(r"\|", r"\|", regex=True))


def by_scorer(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Kinds by scorers: the mean over classes of the mean over seeds; and how many of both there are."""
    table = _means(rows, ["kind"], column).reindex(columns=[name for name in SHOWN if name in set(rows.scorer)])
    order = table.max(axis=1).sort_values(ascending=False).index
    counts = rows.groupby("kind").agg(classes=("data_set", "nunique"), seeds=("seed", "nunique")).astype(str)
    return _text(table.loc[order].join(counts).reset_index())


def _means(rows: pd.DataFrame, by: Sequence[str], column: str) -> pd.DataFrame:
    each = rows.groupby([*by, "scorer", "data_set"])[column].mean()
    return each.groupby([*by, "scorer"]).mean().unstack("scorer")


def beside(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per kind and scorer for which a number is published, and ours; trained on normal images alone."""
    clean = rows[(rows.contamination == 0) & (rows.protocol == ONE_CLASS)]
    ours = _means(clean, ["family", "kind"], "auroc").stack()
    table = [
        (family, kind, scorer, published.value(family, kind, scorer), value)
        for (family, kind, scorer), value in ours.items()
    ]
    columns = ["data", "kind", "scorer", "published", "ours"]
    known = pd.DataFrame([row for row in table if row[3] == row[3]], columns=columns)
    return _text(known.assign(difference=known.ours - known.published))


def diagnosed(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per kind: the means of what is known of its trainings."""
    each = rows[rows.contamination == 0].drop_duplicates(["data_set", "seed", "kind"])
    table = each.groupby("kind", sort=False)[list(DIAGNOSTICS)].mean()
    return _text(table.rename(columns=DIAGNOSTICS).reset_index(), 2)


def losses(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per kind, share of anomalies and protocol: the mean loss of AUROC with each scorer."""
    at = ["data_set", "seed", "kind", "protocol", "scorer"]
    clean = rows[rows.contamination == 0].set_index(at).auroc
    parts = []
    for ratio, part in rows[rows.contamination > 0].groupby("contamination"):
        lost = (clean - part.set_index(at).auroc).dropna().rename("lost").reset_index()
        table = _means(lost, ["kind", "protocol"], "lost")
        counts = lost.groupby(["kind", "protocol"]).data_set.nunique().rename("classes").astype(str)
        shown = table.reindex(columns=[name for name in SHOWN if name in table]).join(counts).reset_index()
        parts.append(_text(shown.assign(anomalous=f"{ratio:.0%}")))
    return pd.concat(parts)


def _published(table: pd.DataFrame) -> pd.DataFrame:
    shown = table.copy()
    shown.index = pd.MultiIndex.from_tuples(shown.index, names=["kind", "scorer"])
    return _text(shown.reset_index())


def _scored_by(protocol: str) -> str:
    labeled = "scorers fitted to the labeled normal images"
    return labeled if protocol == SEMI_SUPERVISED else "scorers fitted to all train images"


def _text(table: pd.DataFrame, decimals: int = 3) -> pd.DataFrame:
    """Numbers as text, and a dash where there is none."""
    shown = table.copy()
    for name in shown.columns[[pd.api.types.is_numeric_dtype(shown[name]) for name in shown]]:
        shown[name] = [NONE if pd.isna(v) else f"{v:.{decimals}f}" for v in shown[name]]
    return shown.astype(str)
