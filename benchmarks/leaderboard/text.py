"""The summary as Markdown and LaTeX."""

import math
import re

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
    """The verdict and the summary as a Markdown table, baselines in italics."""
    lines = [
        f"# Leaderboard: {markdown_escaped(content.suite)}",
        "",
        markdown_escaped(" ".join(content.verdict)),
        "",
        "| " + " | ".join(["chosen by", *COLUMNS.values()]) + " |",
        "|---" + "|--:" * len(COLUMNS) + "|",
    ]
    for name, row in content.summary.iterrows():
        shown = markdown_escaped(str(name))
        cells = [f"*{shown}*" if row.kind == "baseline" else shown, *_numbers(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "In italics: baselines.", ""])


def latex(content: Content) -> str:
    """The summary as a table for the package booktabs, baselines emphasized."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_escaped(' '.join(content.verdict))} Emphasized: baselines.}}",
        r"\label{tab:leaderboard}",
        rf"\begin{{tabular}}{{l{'r' * len(COLUMNS)}}}",
        r"\toprule",
        " & ".join(["chosen by", *COLUMNS.values()]) + r" \\",
        r"\midrule",
    ]
    for name, row in content.summary.iterrows():
        shown = latex_escaped(str(name))
        name_cell = rf"\emph{{{shown}}}" if row.kind == "baseline" else shown
        numbers = [number.replace(NONE, "--").replace("<", "$<$") for number in _numbers(row)]
        lines.append(" & ".join([name_cell, *numbers]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _numbers(row: pd.Series) -> list[str]:
    return [p_value(row[column]) if column == "p_holm" else decimals(row[column]) for column in COLUMNS]
