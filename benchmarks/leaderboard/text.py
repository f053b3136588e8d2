"""The summary as Markdown and LaTeX."""

import math
import re
from collections.abc import Iterator

import pandas as pd

from benchmarks.leaderboard.content import Content

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
    """The verdict and the summary as a Markdown table, baselines in italics; then that of the decidable data sets."""
    lines = [
        f"# Leaderboard: {markdown_escaped(content.suite)}",
        "",
        markdown_escaped(" ".join(content.verdict)),
        "",
        *_markdown_table(content.summary),
        "",
        "## Decidable data sets",
        "",
        markdown_escaped(content.undecided),
    ]
    last = f"In italics: baselines. p to default: Wilcoxon's over {content.units}, corrected by Holm"
    if content.decidable_summary is not None:
        lines += ["", *_markdown_table(content.decidable_summary)]
        last += f"; of the decidable data sets over {content.decidable_units}"
    return "\n".join([*lines, "", f"{last}.{content.caution}", ""])


def _markdown_table(summary: pd.DataFrame) -> Iterator[str]:
    yield "| " + " | ".join(["chosen by", *COLUMNS.values()]) + " |"
    yield "|---" + "|--:" * len(COLUMNS) + "|"
    for name, row in summary.iterrows():
        shown = markdown_escaped(str(name))
        cells = [f"*{shown}*" if row.kind == "baseline" else shown, *_numbers(row)]
        yield "| " + " | ".join(cells) + " |"


def latex(content: Content) -> str:
    """The summary as a table for the package booktabs, baselines emphasized; then that of the decidable data sets."""
    tables = _latex_table(content.summary, " ".join(content.verdict), "leaderboard")
    if content.decidable_summary is not None:
        tables += ["", *_latex_table(content.decidable_summary, content.undecided, "leaderboard-decidable")]
    return "\n".join([*tables, ""])


def _latex_table(summary: pd.DataFrame, caption: str, label: str) -> list[str]:
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_escaped(caption)} Emphasized: baselines.}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{l{'r' * len(COLUMNS)}}}",
        r"\toprule",
        " & ".join(["chosen by", *COLUMNS.values()]) + r" \\",
        r"\midrule",
    ]
    for name, row in summary.iterrows():
        shown = latex_escaped(str(name))
        name_cell = rf"\emph{{{shown}}}" if row.kind == "baseline" else shown
        numbers = [number.replace(NONE, "--").replace("<", "$<$") for number in _numbers(row)]
        lines.append(" & ".join([name_cell, *numbers]) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]


def _numbers(row: pd.Series) -> list[str]:
    return [p_value(row[column]) if column == "p_holm" else decimals(row[column]) for column in COLUMNS]
