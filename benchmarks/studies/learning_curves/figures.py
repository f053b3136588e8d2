"""One figure per curve, as a complete SVG: mean regrets, and the bands of the default and of a random pick.

As elsewhere the default is green; marks differ in shape as well as in colour (Okabe & Ito's palette). A mark is hollow
where the interval of the gain on a random pick, task by task, contains 0 or does not exist.
"""

from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from selector.report.figures import CHOSEN, OTHER, STYLE, TEST, panel, svg

WIDTH, HEIGHT, LEGEND = 700, 380, 180  # pixels: a figure, and the space for its legend
SERIES = {  # colour, mark and line, the first on top
    "default": (CHOSEN, "D", "-"),
    "ensemble": (TEST, "s", "-"),
    "pu_auc": ("#CC79A7", "o", "--"),
    "rtm": ("#56B4E9", "^", "--"),
    "pseudo_auc": ("#E69F00", "v", "--"),
    "dsv": ("#D55E00", "X", ""),
    "random": (OTHER, "", "-"),
}
ALONE = ("dsv",)  # shown in one curve only
BANDS = ("random", "default")
SMALLEST = 0.01  # ratio of anomalies above which its axis is logarithmic
CAPTION = "95% bands over data sets;\nhollow: not significantly\nbetter than random"


@dataclass(frozen=True)
class Look:
    """How a curve is shown: its title, the name of its factor, and the scale of its settings."""

    title: str
    heading: str
    scale: str = "log"
    also: str = ""  # the series that is shown in this curve only


FIGURES = {
    "validation": Look("Fewer held-out normal images", "validation images, at most"),
    "test": Look("Fewer unlabeled test images", "test images, at most"),
    "ratio": Look("Fewer anomalies", "share of anomalies among the test images", "symlog", also="dsv"),
    "shift": Look("Normal images that shift", "AUROC of normal test images against validation images", "linear"),
}


def figure(table: pd.DataFrame, curve: str) -> str:
    """The curve of that name among those of ``summarise``, as an SVG document."""
    look, rows = FIGURES[curve], table[table.curve == curve]
    with matplotlib.rc_context(STYLE):
        drawing, axes = panel(WIDTH, HEIGHT, left=58, right=LEGEND, bottom=48, top=34)
        shown = [name for name in SERIES if name not in ALONE or name == look.also]
        for name in reversed(shown):
            _series(axes, rows[rows.chosen_by == name], name)
            if curve == "shift":
                _shifted(axes, table[(table.curve == "shifted") & (table.chosen_by == name)], name)
        _scale(axes, look.scale, sorted(set(rows["at"])))
        axes.set_ylim(0)
        axes.grid(axis="y")
        axes.set_title(look.title, loc="left", color=TEST, fontweight="bold")
        axes.set_xlabel(look.heading)
        axes.set_ylabel("mean regret, in AUROC")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles[::-1],
            labels[::-1],
            loc="upper left",
            bbox_to_anchor=(1.02, 1),
            frameon=False,
            title=CAPTION,
            title_fontsize=10,
        )
        drawn = svg(drawing, curve, f"Mean regret by {look.heading}")
    size = f'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{WIDTH}"'
    return str(drawn).replace("<svg ", f"<svg {size} ", 1)


def _series(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    colour, mark, line = SERIES[name]
    rows = rows.sort_values("at")
    at, regret = rows["at"].to_numpy(), rows.regret.to_numpy()
    if name in BANDS:
        axes.fill_between(at, rows.low.to_numpy(), rows.high.to_numpy(), color=colour, alpha=0.2, linewidth=0)
    axes.plot(at, regret, line + mark, color=colour, label=name, markersize=6, linewidth=1.8)
    hollow = (~(rows.gain_low > 0)).to_numpy()
    axes.plot(at[hollow], regret[hollow], mark, color=colour, markerfacecolor="white", markersize=6)


def _shifted(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    """Tasks with a shift of their own, if there are any: marks without a line."""
    colour, mark, _ = SERIES[name]
    axes.plot(rows["at"], rows.regret, mark or "_", color=colour, markerfacecolor="white", markersize=8)
    if name == "default" and len(rows):
        at, regret = rows.iloc[0][["at", "regret"]]
        axes.annotate("with a shift of their own", (at, regret), xytext=(8, 0), textcoords="offset points", va="center")


def _scale(axes: Axes, scale: str, settings: list[float]) -> None:
    if scale == "linear":
        return
    axes.set_xscale(scale, **({"linthresh": SMALLEST, "linscale": 0.5} if scale == "symlog" else {}))
    axes.xaxis.set_major_locator(FixedLocator(settings))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:.3g}" if value >= 1 else f"{100 * value:.3g}%")
    )
