"""The two charts as inline SVG, in colours that follow the reader's light or dark scheme.

As in a selection's report, what is chosen by default is green; marks differ in shape as well.
"""

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.leaderboard.tables import Ranks
from selector.report.figures import CHOSEN, INK, OTHER, STYLE, TEST, panel, svg

WIDTH, LINE, NAMES = 640, 19, 210  # pixels: a figure, a row, and the space for its name
# What a figure draws in, and what the page's style sheet calls it. Matplotlib writes colours in lower case.
THEME = {
    CHOSEN: "--chosen",
    TEST: "--ink",
    INK: "--soft",
    OTHER: "--other",
    STYLE["axes.edgecolor"]: "--line",
    STYLE["grid.color"]: "--faint",
    "#ffffff": "--paper",
}
MARKS = {"default": (CHOSEN, "D"), "baseline": (OTHER, "s"), "other": (TEST, "o")}


def regrets(table: pd.DataFrame) -> Markup:
    """A dot and its interval for every row of a summary, in its order, the first on top."""
    table = table[table.mean_regret.notna()]
    with matplotlib.rc_context(STYLE):
        figure, axes = _rows(list(table.index), below=44, above=8, beside=14)
        for y, (name, row) in enumerate(table.iterrows()):
            colour, mark = MARKS["default" if name == "default" else "baseline" if row.kind == "baseline" else "other"]
            face = axes.get_facecolor() if row.kind == "baseline" else colour
            axes.plot([row.mean_regret_low, row.mean_regret_high], [y, y], color=colour, linewidth=1.6)
            axes.plot(row.mean_regret, y, mark, color=colour, markerfacecolor=face, markersize=6)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_xlabel("mean regret, in AUROC")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        description = (
            f"Mean regret of {len(table)} rows, from {table.index[0]}, {table.mean_regret.iloc[0]:.3f}, "
            f"to {table.index[-1]}, {table.mean_regret.iloc[-1]:.3f}"
        )
        return _themed(svg(figure, "regret", description))


def critical_difference(ranks: Ranks) -> Markup:
    """Average ranks as dots, the best on top; a bar beside them joins those that do not differ significantly."""
    names = list(ranks.names)
    shown = ranks.average[names]
    gap = 11
    with matplotlib.rc_context(STYLE):
        figure, axes = _rows(names, below=44, above=36, beside=24 + gap * len(ranks.bars))
        for y, (name, rank) in enumerate(shown.items()):
            colour, mark = MARKS["default" if name == "default" else "other"]
            axes.plot(rank, y, mark, color=colour, markersize=6)
            axes.annotate(
                f"{rank:.2f}", (rank, y), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9, color=INK
            )
        low, high = float(shown.min()), float(shown.max())
        axes.set_xlim(low - 0.06 * (high - low) - 0.1, max(high + 0.14 * (high - low) + 0.1, low + ranks.difference))
        axes.xaxis.set_major_locator(MaxNLocator(8))
        axes.set_xlabel(f"average rank of {len(ranks.average)}, 1 is best")
        for i, members in enumerate(ranks.bars):
            ends = [names.index(members[0]) - 0.3, names.index(members[-1]) + 0.3]
            x = 1 + (10 + gap * i) / (WIDTH - NAMES - 24 - gap * len(ranks.bars))
            axes.plot(
                [x, x], ends, color=TEST, linewidth=4, transform=axes.get_yaxis_transform(), clip_on=False, alpha=0.75
            )
        axes.plot([low, low + ranks.difference], [-1.2, -1.2], "|-", color=INK, linewidth=1.6, clip_on=False)
        axes.annotate(
            f"critical difference {ranks.difference:.2f}",
            (low, -1.2),
            xytext=(0, 7),
            textcoords="offset points",
            color=INK,
            annotation_clip=False,
        )
        description = (
            f"Average ranks of {len(names)} of {len(ranks.average)} criteria, from {names[0]}, {shown.iloc[0]:.2f}, "
            f"to {names[-1]}, {shown.iloc[-1]:.2f}; critical difference {ranks.difference:.2f}"
        )
        return _themed(svg(figure, "ranks", description))


def _rows(names: list[str], below: int, above: int, beside: int) -> tuple[Figure, Axes]:
    """Axes with a line of the same height for every name, however many there are."""
    figure, axes = panel(WIDTH, below + above + LINE * len(names), NAMES, beside, below, above)
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="both")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure, axes


def _themed(drawing: Markup) -> Markup:
    text = str(drawing)
    for colour, name in THEME.items():
        text = text.replace(colour.lower(), f"var({name})")
    return Markup(text)
