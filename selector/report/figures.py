"""Charts as inline SVG: each takes a finished table and returns markup that scales with the page.

One colour has one meaning everywhere: blue is normal, orange is augmented, black is test, and the chosen candidate
is green (Okabe & Ito's palette, told apart by colour-blind readers); marks differ in shape as well.
"""

import re
from io import StringIO
from math import isfinite, sqrt

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from selector.report.content import Decision, Projection

NORMAL, AUGMENTED, TEST, CHOSEN, OTHER, INK = "#0072B2", "#D55E00", "#1f2328", "#007A5A", "#8c959f", "#57606a"
SETS = {  # colour, marker and name of the embeddings
    "train": (NORMAL, "o", "train"),
    "augmented": (AUGMENTED, "^", "augmented"),
    "test": (TEST, "x", "test"),
}
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
STYLE = {
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
PIXEL = 1 / 72  # inches: an SVG of matplotlib has 72 units to the inch


def svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an SVG element whose ids start with ``name``, described for those who can't see it."""
    file = StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>\s*", "", drawing, flags=re.DOTALL)
    drawing = re.sub(
        r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawing
    )  # ids are the page's, not the figure's
    drawing = drawing.replace("'DejaVu Sans'", FONT)
    view = re.search(r'viewBox="[^"]*"', drawing)
    assert view is not None
    label = escape(description)
    body = drawing[drawing.index(">") + 1 :]
    return Markup(f'<svg {view[0]} role="img" aria-label="{label}"><title>{label}</title>{body}')


def _panel(width: int, height: int, left: int, right: int, bottom: int, top: int) -> tuple[Figure, Axes]:
    """A figure of one pair of axes, its margins in pixels so that small multiples line up."""
    figure = Figure(figsize=(width * PIXEL, height * PIXEL))
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes(box)
    axes.tick_params(length=3)
    return figure, axes


def _number(value: float, position: object = None) -> str:
    return f"{value:.3g}".replace("-", "−")


def hyperparameter_panels(table: pd.DataFrame, deciding: str) -> list[tuple[str, list[Markup]]]:
    """A panel a varying hyperparameter, by augmentation; all share the axis of the deciding value."""
    if table.empty:
        return []
    low, high = table.value.min(), table.value.max()
    margin = 0.08 * (high - low) or 0.5
    with matplotlib.rc_context(STYLE):
        groups: dict[str, list[Markup]] = {}
        for (augmentation, hyperparameter), rows in table.groupby(
            ["augmentation", "hyperparameter"], sort=False
        ):
            panel = _hyperparameter(rows, hyperparameter, deciding, (low - margin, high + margin))
            description = (
                f"{deciding} against {hyperparameter} of {augmentation}, {len(rows)} candidates, "
                f"from {_number(rows.value.min())} to {_number(rows.value.max())}"
            )
            groups.setdefault(augmentation, []).append(
                svg(panel, f"hyper-{augmentation}-{hyperparameter}", description)
            )
    return list(groups.items())


def _hyperparameter(rows: pd.DataFrame, name: str, deciding: str, limits: tuple[float, float]) -> Figure:
    figure, axes = _panel(340, 230, left=54, right=12, bottom=44, top=12)
    logarithmic = rows.low.min() > 0 and rows.high.max() / rows.low.min() >= 10
    for row in rows.sort_values("is_best").itertuples():
        centre = sqrt(row.low * row.high) if logarithmic else (row.low + row.high) / 2
        colour = CHOSEN if row.is_best else OTHER
        axes.plot(
            [row.low, row.high],
            [row.value] * 2,
            color=colour,
            linewidth=3,
            alpha=0.35,
            solid_capstyle="round",
        )
        axes.plot(
            centre,
            row.value,
            "D" if row.is_best else "o",
            markersize=8 if row.is_best else 6,
            color=colour,
            markerfacecolor=colour if row.status == "ok" else "white",
        )
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(_few_decades(rows.low.min(), rows.high.max()))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylim(limits)
    axes.grid(axis="y")
    axes.set_xlabel(name + (" (log scale)" if logarithmic else ""))
    axes.set_ylabel(deciding)
    return figure


def _few_decades(low: float, high: float) -> matplotlib.ticker.Locator:
    subs = (1, 2, 5) if high / low < 60 else (1, 3) if high / low < 1000 else (1,)
    return matplotlib.ticker.LogLocator(subs=subs)


def projection(table: Projection) -> Markup:
    """Train, augmented and test embeddings of a candidate as points."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _panel(460, 400, left=42, right=10, bottom=42, top=34)
        for name, (colour, marker, label) in SETS.items():
            rows = table.points[table.points.set == name]
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
        total = sum(table.explained)
        description = f"Embeddings of {table.title} on two principal components that explain {total:.0%} of the variance"
        return svg(figure, f"projection-{table.rank}", description)


def score_histogram(table: Decision) -> Markup:
    """Three histograms over one axis of scores, and the threshold."""
    sets = (
        ("validation", NORMAL, "validation normals"),
        ("augmented", AUGMENTED, "augmented validation"),
        ("test", TEST, "test, unlabeled"),
    )
    width, height, left, bottom, top, gap = 560, 400, 48, 44, 24, 30
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width * PIXEL, height * PIXEL))
        room = (height - bottom - top - 2 * gap) / 3
        for place, (name, colour, label) in enumerate(sets):
            y = bottom + (2 - place) * (room + gap)
            axes = figure.add_axes((left / width, y / height, (width - left - 12) / width, room / height))
            axes.stairs(table.share[name], table.edges, fill=True, color=colour, alpha=0.25)
            axes.stairs(table.share[name], table.edges, color=colour, linewidth=1.4)
            axes.axvline(table.threshold, color="#a40e26", linewidth=1.4, linestyle=(0, (4, 2)))
            axes.set_title(label, loc="left", color=colour, pad=4)
            if table.is_logarithmic:
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(_few_decades(table.edges[0], table.edges[-1]))
                axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlim(table.edges[0], table.edges[-1])
            axes.xaxis.set_major_formatter(FuncFormatter(_number))
            axes.yaxis.set_major_locator(MaxNLocator(2))
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.tick_params(length=3, labelbottom=place == 2)
            axes.grid(axis="y")
            if place == 0:
                right = _relative(table) > 0.7
                axes.annotate(
                    "threshold",
                    (table.threshold, 1),
                    xycoords=("data", "axes fraction"),
                    xytext=(-5 if right else 5, 4),
                    textcoords="offset points",
                    ha="right" if right else "left",
                    color="#a40e26",
                )
        axes.set_xlabel("anomaly score" + (" (log scale)" if table.is_logarithmic else ""))
        description = (
            f"Histograms of the anomaly scores of validation, augmented validation and test images; "
            f"{table.n_flagged} of {table.n_test} test images lie above the threshold {_number(table.threshold)}"
        )
        return svg(figure, "scores", description)


def _relative(table: Decision) -> float:
    """Where the threshold lies on the axis, from 0 to 1."""
    ends = np.array([table.edges[0], table.threshold, table.edges[-1]])
    low, at, high = np.log(ends) if table.is_logarithmic else ends
    return float((at - low) / (high - low))


def loss_panels(table: pd.DataFrame) -> list[tuple[str, Markup]]:
    """The training losses, a panel an augmentation; all share their axes."""
    if table.empty:
        return []
    panels = []
    steps, high = table.step.max(), table.loss.max()
    with matplotlib.rc_context(STYLE):
        for augmentation, rows in table.groupby("augmentation", sort=False):
            figure, axes = _panel(340, 220, left=48, right=12, bottom=44, top=12)
            for rank, curve in sorted(rows.groupby("rank"), key=lambda item: -item[0]):
                best, dashes = rank == 1, "-" if curve.status.iloc[0] == "ok" else (0, (3, 2))
                axes.plot(
                    curve.step,
                    curve.loss,
                    color=CHOSEN if best else OTHER,
                    linewidth=2.2 if best else 1.1,
                    alpha=1 if best else 0.7,
                    linestyle=dashes,
                )
            axes.set_xlim(0, steps)
            axes.set_ylim(0, 1.05 * high if isfinite(high) and high > 0 else 1)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_formatter(FuncFormatter(_number))
            axes.grid(axis="y")
            axes.set_xlabel("step")
            axes.set_ylabel("loss")
            ends = rows.groupby("rank").loss.last()
            description = (
                f"Training losses of {len(ends)} candidates of {augmentation}; "
                f"they end between {_number(ends.min())} and {_number(ends.max())}"
            )
            panels.append((augmentation, svg(figure, f"losses-{augmentation}", description)))
    return panels
