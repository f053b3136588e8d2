"""Charts as inline SVG: each takes a finished table and returns markup that scales with the page.

One colour has one meaning everywhere: blue is normal, orange is augmented, black is test, and the chosen
candidate is green (Okabe & Ito's palette, which colour-blind readers can distinguish); marks differ in shape as well.
"""

import re
from collections.abc import Collection, Iterator
from io import StringIO
from math import isfinite, sqrt
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from selector.report.content import Projection
from selector.report.score_threshold import DECADE, ScoreThreshold

NORMAL, AUGMENTED, TEST, CHOSEN, OTHER, INK = "#0072B2", "#D55E00", "#1f2328", "#007A5A", "#8c959f", "#57606a"
SETS = {  # colour, marker and name of the embeddings
    "train": (NORMAL, "o", "train"),
    "augmented": (AUGMENTED, "^", "augmented"),
    "test": (TEST, "x", "test"),
}
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the reader's font
    "svg.hashsalt": "report",  # the same figure twice is the same markup
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#d0d7de",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": "#d0d7de",
    "ytick.color": "#d0d7de",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": "#eaeef2",
    "text.color": TEST,
    "text.usetex": False,
    "text.parse_math": False,
}
AGREEMENT = matplotlib.colormaps["PRGn"]  # of ColorBrewer, safe for colour-blind readers; no set has its colours
CELL = 26  # px of a cell of the heat map: a number of two digits
PIXEL = 1 / 72  # inches: an SVG of matplotlib has 72 units to the inch


def svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an SVG element whose ids start with ``name``, with a description for screen readers."""
    file = StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>\s*", "", drawing, flags=re.DOTALL)
    # Ids are unique in a page, and not only in a figure.
    drawing = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawing)
    drawing = drawing.replace("'DejaVu Sans'", FONT)
    view = re.search(r'viewBox="[^"]*"', drawing)
    assert view is not None
    label = escape(description)
    body = drawing[drawing.index(">") + 1 :]
    return Markup(f'<svg {view[0]} role="img" aria-label="{label}"><title>{label}</title>{body}')


def panel(width: int, height: int, left: int, right: int, bottom: int, top: int) -> tuple[Figure, Axes]:
    """A figure of one pair of axes, its margins in pixels so that small multiples line up."""
    figure = Figure(figsize=(width * PIXEL, height * PIXEL))
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes(box)
    axes.tick_params(length=3)
    return figure, axes


def _number(value: float, position: object = None) -> str:
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def _groups(table: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The parts of a table with the same text in a column, in the order of the table."""
    for key in dict.fromkeys(table[column].tolist()):
        yield key, table[table[column] == key]


def hyperparameter_panels(table: pd.DataFrame, deciding: str) -> list[tuple[str, str, Markup]]:
    """Augmentation, hyperparameter and a panel for each that varies; what has one name has one axis."""
    if table.empty:
        return []
    low, high = float(table.value.min()), float(table.value.max())
    margin = 0.08 * (high - low) or 0.5
    panels = []
    with matplotlib.rc_context(STYLE):
        for augmentation, part in _groups(table, "augmentation"):
            for name, rows in _groups(part, "hyperparameter"):
                limits = (low - margin, high + margin)
                if rows.choice.any():
                    figure = _choices(rows, name, deciding, limits)
                else:
                    namesakes = table[table.hyperparameter == name]
                    ends = float(namesakes.low.min()), float(namesakes.high.max())
                    figure = _hyperparameter(rows, name, ends, deciding, limits)
                description = (
                    f"{deciding} against {name} of {augmentation}, {len(rows)} candidates, "
                    f"from {_number(rows.value.min())} to {_number(rows.value.max())}"
                )
                panels.append((augmentation, name, svg(figure, f"hyper-{augmentation}-{name}", description)))
    return panels


def _hyperparameter(
    rows: pd.DataFrame, name: str, ends: tuple[float, float], deciding: str, limits: tuple[float, float]
) -> Figure:
    figure, axes = panel(340, 230, left=54, right=12, bottom=44, top=12)
    least, most = ends
    logarithmic = least > 0 and most / least >= DECADE
    for row in rows.sort_values("is_best").to_dict("records"):
        low, high, value, best = row["low"], row["high"], row["value"], row["is_best"]
        centre = sqrt(low * high) if logarithmic else (low + high) / 2
        colour = CHOSEN if best else OTHER
        axes.plot([low, high], [value] * 2, color=colour, linewidth=3, alpha=0.35, solid_capstyle="round")
        _mark(axes, centre, value, best, row["status"])
    if logarithmic:
        _logarithmic(axes, least, most)
        margin = (most / least) ** 0.05
        axes.set_xlim(least / margin, most * margin)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        margin = 0.05 * (most - least)
        axes.set_xlim(least - margin, most + margin)
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    _deciding_axis(axes, deciding, limits)
    axes.set_xlabel(name + (" (log scale)" if logarithmic else ""))
    return figure


def _choices(rows: pd.DataFrame, name: str, deciding: str, limits: tuple[float, float]) -> Figure:
    """Deciding values against a choice, whose values have no order but the alphabet's."""
    figure, axes = panel(340, 230, left=54, right=12, bottom=44, top=12)
    choices = sorted(set(rows.choice))
    for row in rows.sort_values("is_best").to_dict("records"):
        _mark(axes, choices.index(row["choice"]), row["value"], row["is_best"], row["status"])
    axes.set_xticks(range(len(choices)), choices)
    axes.set_xlim(-0.5, len(choices) - 0.5)
    _deciding_axis(axes, deciding, limits)
    axes.set_xlabel(name)
    return figure


def _mark(axes: Axes, x: float, y: float, is_best: bool, status: str) -> None:
    """A candidate: the chosen one as a diamond, a collapsed one hollow."""
    colour = CHOSEN if is_best else OTHER
    axes.plot(
        x,
        y,
        "D" if is_best else "o",
        markersize=8 if is_best else 6,
        color=colour,
        markerfacecolor=colour if status == "ok" else "white",
    )


def _deciding_axis(axes: Axes, deciding: str, limits: tuple[float, float]) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylim(limits)
    axes.grid(axis="y")
    axes.set_ylabel(deciding)


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of scores or ranges, with few enough ticks to read them."""
    axes.set_xscale("log")
    subs = (1, 2, 5) if high / low < 60 else (1, 3) if high / low < 1000 else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_minor_locator(NullLocator())


def agreement(table: pd.DataFrame, deciding: Collection[str]) -> tuple[Markup, int] | None:
    """The lower triangle of a matrix of rank correlations as a heat map, and its width in pixels.

    Args:
        table: The matrix; a correlation that does not exist is NaN.
        deciding: The names to print in bold.

    Returns:
        Figure and width; None where there are fewer than two names.
    """
    names = [str(name) for name in table]
    if len(names) < 2:
        return None
    count = len(names) - 1
    taus = table.to_numpy()[1:, :-1]
    is_shown = np.tril(np.isfinite(taus))
    margin = 12 + round(6.3 * max(map(len, names)))  # px: the longest name beside, and below, the cells
    side = margin + count * CELL + 8
    with matplotlib.rc_context(STYLE):
        figure, axes = panel(side, side, left=margin, right=8, bottom=margin, top=8)
        for row, column in zip(*map(np.ndarray.tolist, is_shown.nonzero()), strict=True):
            tau = float(taus[row, column])
            colour = AGREEMENT((tau + 1) / 2)
            # ``add_patch`` would look for the limits of the axes again with every cell.
            axes.add_artist(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white"))
            ink = "white" if _is_dark(colour) else TEST
            axes.text(column + 0.5, row + 0.5, _short(tau), ha="center", va="center", fontsize=8.5, color=ink)
        axes.set_xlim(0, count)
        axes.set_ylim(count, 0)
        axes.set_xticks(np.arange(count) + 0.5, names[:-1], rotation=90)
        axes.set_yticks(np.arange(count) + 0.5, names[1:])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            if label.get_text() in deciding:
                label.set(fontweight="bold", color=TEST)
        description = f"Kendall's tau-b between {len(names)} criteria"
        if is_shown.any():
            places = (
                np.unravel_index(np.where(is_shown, sign * taus, -np.inf).argmax(), taus.shape) for sign in (-1, 1)
            )
            ends = [f"{_number(taus[i, j])} of {names[i + 1]} and {names[j]}" for i, j in places]
            description += f", from {ends[0]} to {ends[1]}; report.json has every value"
        return svg(figure, "agreement", description), side


def _short(tau: float) -> str:
    """Two digits without the leading zero, as usual in tables of correlations: .45, 1.00."""
    return f"{round(tau, 2) + 0.0:.2f}".replace("0.", ".", 1).replace("-", "\N{MINUS SIGN}")


def _is_dark(colour: tuple[float, float, float, float]) -> bool:
    """Whether white text is easier to read on it than black: relative luminance under .179 (WCAG 2)."""
    linear = ((np.array(colour[:3]) + 0.055) / 1.055) ** 2.4
    return bool(linear @ (0.2126, 0.7152, 0.0722) < 0.179)


def projection(table: Projection) -> Markup:
    """Train, augmented and test embeddings of a candidate as points."""
    with matplotlib.rc_context(STYLE):
        figure, axes = panel(460, 410, left=66, right=10, bottom=44, top=34)
        for name, (colour, marker, label) in SETS.items():
            rows = table.points[table.points.set == name]
            if rows.empty:
                continue
            line = axes.plot(rows.x, rows.y, marker, color=colour, markersize=4.5, label=label, alpha=0.6)[0]
            line.set_markeredgewidth(1.2 if marker == "x" else 0)
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid()
        for axis, number in ((axes.xaxis, 0), (axes.yaxis, 1)):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(FuncFormatter(_number))
            share = table.explained[number] if number < len(table.explained) else 0.0
            axis.set_label_text(f"component {number + 1} ({share:.0%} of the variance)")
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.02, 1),
            ncol=3,
            frameon=False,
            handletextpad=0.1,
            columnspacing=1.2,
        )
        description = (
            f"Embeddings of {table.title} on two principal components "
            f"that explain {sum(table.explained):.0%} of the variance"
        )
        return svg(figure, f"projection-{table.rank}", description)


def score_histogram(table: ScoreThreshold) -> Markup:
    """A histogram of each set of scores, all over the same axis, with the threshold."""
    every = (
        ("validation", NORMAL, "validation normals"),
        ("augmented", AUGMENTED, "augmented validation"),
        ("test", TEST, "test, unlabeled"),
    )
    sets = [named for named in every if named[0] in table.share]
    width, height, left, bottom, top, gap = 460, 400, 44, 44, 40, 30
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width * PIXEL, height * PIXEL))
        last = len(sets) - 1
        each = (height - bottom - top - last * gap) / len(sets)
        for place, (name, colour, label) in enumerate(sets):
            y = bottom + (last - place) * (each + gap)
            axes = figure.add_axes((left / width, y / height, (width - left - 12) / width, each / height))
            axes.stairs(table.share[name], table.edges, fill=True, color=colour, alpha=0.25)
            axes.stairs(table.share[name], table.edges, color=colour, linewidth=1.4)
            axes.axvline(table.threshold, color="#a40e26", linewidth=1.4, linestyle=(0, (4, 2)))
            axes.set_title(label, loc="left", color=colour, pad=4)
            if table.is_logarithmic:
                _logarithmic(axes, table.edges[0], table.edges[-1])
            axes.set_xlim(table.edges[0], table.edges[-1])
            axes.xaxis.set_major_formatter(FuncFormatter(_number))
            axes.yaxis.set_major_locator(MaxNLocator(2))
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.tick_params(length=3, labelbottom=place == last)
            axes.grid(axis="y")
            if place == 0:
                right = _relative(table) > 0.5
                axes.annotate(
                    "threshold",
                    (table.threshold, 1),
                    xycoords=("data", "axes fraction"),
                    xytext=(6 if right else -6, 21),
                    textcoords="offset points",
                    ha="right" if right else "left",
                    color="#a40e26",
                )
        axes.set_xlabel("anomaly score" + (" (log scale)" if table.is_logarithmic else ""))
        flagged = f"{table.n_flagged} of {table.n_test} test images are above the threshold; " if table.n_test else ""
        drawn = ", ".join(label for _, _, label in sets)
        description = f"Histograms of anomaly scores: {drawn}; {flagged}threshold {_number(table.threshold)}"
        return svg(figure, "scores", description)


def _relative(table: ScoreThreshold) -> float:
    """The position of the threshold on the axis, from 0 to 1."""
    ends = np.array([table.edges[0], table.threshold, table.edges[-1]])
    low, at, high = np.log(ends) if table.is_logarithmic else ends
    return float((at - low) / (high - low))


def loss_panels(table: pd.DataFrame) -> list[tuple[str, Markup]]:
    """The training losses: one panel per group, which shares its axes with all groups of its kind of detector."""
    if table.empty:
        return []
    panels: list[tuple[str, Markup]] = []
    with matplotlib.rc_context(STYLE):
        for _, kind in _groups(table, "detector"):
            low, high = min(0.0, float(kind.loss.min())), float(kind.loss.max())
            for group, rows in _groups(kind, "group"):
                figure, axes = panel(340, 220, left=48, right=12, bottom=44, top=12)
                ends = []
                for rank in sorted(set(rows["rank"].tolist()), reverse=True):  # the best one on top
                    curve = rows[rows["rank"] == rank]
                    axes.plot(
                        curve.step.to_numpy(),
                        curve.loss.to_numpy(),
                        color=CHOSEN if rank == 1 else OTHER,
                        linewidth=2.2 if rank == 1 else 1.1,
                        alpha=1 if rank == 1 else 0.7,
                        linestyle="-" if curve.status.iloc[0] == "ok" else (0, (3, 2)),
                    )
                    ends.append(float(curve.loss.iloc[-1]))
                axes.set_xlim(0, int(kind.step.max()))
                axes.set_ylim(1.05 * low, 1.05 * high if isfinite(high) and high > low else low + 1)
                axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
                axes.yaxis.set_major_locator(MaxNLocator(4))
                axes.yaxis.set_major_formatter(FuncFormatter(_number))
                axes.grid(axis="y")
                axes.set_xlabel("step")
                axes.set_ylabel("loss")
                description = (
                    f"Training losses of {len(ends)} candidates of {group}; "
                    f"they end between {_number(min(ends))} and {_number(max(ends))}"
                )
                panels.append((group, svg(figure, f"losses-{len(panels)}", description)))
    return panels
