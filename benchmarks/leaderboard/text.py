"""The summary as Markdown and LaTeX."""

import math
import re
from collections.abc import Callable

import pandas as pd

from benchmarks.leaderboard.content import Content
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
    """The verdict and the summary as a Markdown table, baselines in italics; then of the label-resolvable data sets."""
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
    return "\n".join([*lines, "", f"{last}.{content.caution}", ""])


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
