"""The summary as Markdown and LaTeX."""

import math
import re
from collections.abc import Callable

import pandas as pd

from benchmarks.leaderboard.content import Content
from benchmarks.leaderboard.detector_kinds import DetectorKinds
from benchmarks.leaderboard.gains import FAR, Gains
from benchmarks.leaderboard.markdown import markdown_table

# Columns of the summary that fit a page, and their headings.
COLUMNS = {
    "mean_regret": "mean regret",
    "median_regret": "median regret",
    "mean_auroc": "mean AUROC",
    "average_rank": "average rank",
    "worse_than_mean": "worse than mean",
    "mean_spearman": "Spearman",
    "p_holm": "p to default",
}
NONE = "\N{EN DASH}"
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&])")
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def decimals(value: float) -> str:
    """Three of them, as AUROC is read; a dash where there is no number."""
    return f"{value:.3f}" if math.isfinite(value) else NONE


def signed(value: float) -> str:
    """A difference, with its sign."""
    if not math.isfinite(value):
        return NONE
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "\N{MINUS SIGN}")  # + 0.0: there is no -0.000


def p_value(value: float) -> str:
    """Three decimals, and no p-value of 0."""
    return "< 0.001" if value < 0.001 else decimals(value)


def markdown_escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def latex_escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))


def markdown(content: Content) -> str:
    """The verdict and the summary as a Markdown table, baselines in italics; then of the label-resolvable data sets;
    the gains on choosing nothing, and the best of each kind of detector.
    """
    lines = [
        f"# Leaderboard: {markdown_escaped(content.suite)}",
        "",
        markdown_escaped(" ".join(content.verdict)),
        "",
        *([markdown_escaped(content.judgements), ""] if content.judgements else []),
        markdown_table(_cells(content.summary, markdown_escaped, "*{}*")),
        "",
        "## Label-resolvable data sets",
        "",
        markdown_escaped(content.unresolved),
    ]
    last = f"In italics: baselines. p to default: Wilcoxon's over {content.units}, corrected by Holm"
    if content.resolvable_summary is not None:
        lines += ["", markdown_table(_cells(content.resolvable_summary, markdown_escaped, "*{}*"))]
        last += f"; of the label-resolvable data sets over {content.resolvable_units}"
    lines += ["", f"{last}.{content.caution}"]
    if content.gains is not None:
        title = f"The ensemble's gain in AUROC, and its 95% interval over resampled {content.units}"
        lines += ["", "## Against no choice", "", f"{title}:", "", _escaped_table(gains_cells(content.gains))]
    if content.by_detector_kind is not None:
        title = "The AUROC of the candidate of each kind that is best by the labels, mean over tasks and seeds"
        cells = detector_kinds_cells(content.by_detector_kind)
        lines += ["", "## By kind of detector", "", f"{title}:", "", _escaped_table(cells)]
    return "\n".join([*lines, ""])


def _escaped_table(cells: pd.DataFrame) -> str:
    return markdown_table(cells.map(markdown_escaped).rename(columns=markdown_escaped))


def gains_cells(gains: Gains) -> pd.DataFrame:
    """The finished text of every cell: one row per anomaly ratio."""
    columns: dict[str, list[str]] = {"anomalies": gains.ratios}
    for name in gains.against:
        of_ratios = [gains.of(ratio, name) for ratio in gains.ratios]
        columns[f"over {name}"] = [_with_interval(row) for row in of_ratios]
        columns[f"ahead of {name}"] = [f"{row.ahead} of {row.data_sets} data sets" for row in of_ratios]
    if gains.far_below is not None:
        title = f"more than {FAR:g} below the best untrained"
        columns[title] = [f"{len(names)}: {', '.join(names)}" if names else "0" for names in gains.far_below.values()]
    return pd.DataFrame(columns)


def _with_interval(row: pd.Series) -> str:
    """A gain and, where there is one, its interval."""
    between = f" ({signed(row.low)} to {signed(row.high)})" if math.isfinite(row.low) else ""
    return signed(row.gain) + between


def detector_kinds_cells(kinds: DetectorKinds) -> pd.DataFrame:
    """The finished text of every cell: one row per data set, one column per kind with its number of candidates."""
    columns = {f"{kind} ({kinds.candidates[kind]})": kinds.auroc[kind].map(decimals) for kind in kinds.auroc}
    table = pd.DataFrame(columns).assign(best=kinds.best, trained=kinds.gain_of_training.map(signed))
    table = table.rename(columns={"best": "best kind", "trained": "best trained, ahead of best untrained"})
    return table.rename_axis("data set").reset_index()


def latex(content: Content) -> str:
    """The summary as a table for the package booktabs, baselines emphasized; then of the label-resolvable data sets."""
    tables = [_latex_table(content.summary, " ".join(content.verdict), "leaderboard")]
    if content.resolvable_summary is not None:
        tables.append(_latex_table(content.resolvable_summary, content.unresolved, "leaderboard-label-resolvable"))
    return "\n".join(tables)


def _latex_table(summary: pd.DataFrame, caption: str, label: str) -> str:
    cells = _cells(summary, latex_escaped, r"\emph{{{}}}").replace({NONE: "--"}).replace("<", "$<$", regex=True)
    return cells.style.hide(axis="index").to_latex(
        hrules=True,
        column_format="l" + "r" * len(COLUMNS),
        caption=f"{latex_escaped(caption)} Emphasized: baselines.",
        label=f"tab:{label}",
        position_float="centering",
    )


def _cells(summary: pd.DataFrame, escaped: Callable[[str], str], emphasis: str) -> pd.DataFrame:
    """The finished text of every cell; emphasis: what the name of a baseline is put into."""
    names = [escaped(str(name)) for name in summary.index]
    is_baseline = summary.kind == "baseline"
    first = [emphasis.format(name) if own else name for name, own in zip(names, is_baseline, strict=True)]
    shown = {name: summary[name].map(p_value if name == "p_holm" else decimals) for name in COLUMNS}
    return pd.DataFrame({"chosen by": first} | {COLUMNS[name]: list(column) for name, column in shown.items()})
