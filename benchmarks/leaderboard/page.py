"""The page: content and figures put into one HTML file, and the same as Markdown, LaTeX and CSV beside it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.leaderboard import figures, meanings, published, tables, text
from benchmarks.leaderboard.content import Content, gather
from benchmarks.leaderboard.result import read
from detectors import files
from selector.report.leaderboard import Directed
from selector.report.page import environment, inlined
from selector.zoo.disk import disk_errors

PACKAGE = "benchmarks.leaderboard"


@dataclass(frozen=True)
class Measure(Directed):
    """A column of numbers of the main table: of the summary, as text."""

    column: str
    show: Callable[[float], str]

    def shown(self, value: float) -> str:
        return self.show(value) if math.isfinite(value) else text.NONE


MEASURES = (
    Measure("mean regret", False, "mean_regret", text.decimals),
    Measure("median regret", False, "median_regret", text.decimals),
    Measure("mean AUROC", True, "mean_auroc", text.decimals),
    Measure("average rank", False, "average_rank", "{:.2f}".format),
    Measure("place in zoo", False, "place_in_zoo", "{:.1f}".format),
    Measure("worse than mean", False, "worse_than_mean", "{:.0%}".format),
    Measure("Spearman", True, "mean_spearman", "{:.2f}".format),
    Measure("seed spread", False, "seed_spread", text.decimals),
    Measure("p to default", False, "p_holm", text.p_value),
)


def write(folder: Path, out: Path | None = None) -> Path:
    """Write the leaderboard of a benchmark run: index.html, leaderboard.md, leaderboard.tex and summary.csv.

    Args:
        folder: holds the run's leaderboard.csv, candidates.csv and settings.json.
        out: the folder to write to; None: the same.

    Returns:
        The path of the page, which loads nothing from elsewhere.

    Raises:
        InputError: where one of the three files is missing or not what a run wrote; it names the file.
        StorageError: where the folder can't be written to.
    """
    folder = Path(folder)
    out = folder if out is None else Path(out)
    content = gather(read(folder))
    written = {
        "index.html": render(content),
        "leaderboard.md": text.markdown(content),
        "leaderboard.tex": text.latex(content),
        "summary.csv": _both(content).to_csv(),
    }
    with disk_errors(out, kept="the run itself is untouched"):
        for name, whole in written.items():
            files.write_bytes(out / name, whole.encode())
    return out / "index.html"


def _both(content: Content) -> pd.DataFrame:
    """The summary, and beside its columns, as ``label_resolvable_...``, those over such data sets only."""
    if content.resolvable_summary is None:
        return content.summary
    return content.summary.join(content.resolvable_summary.drop(columns="kind").add_prefix("label_resolvable_"))


def render(content: Content) -> str:
    """The page as text."""
    page = environment(PACKAGE)
    page.filters |= {
        "decimals": text.decimals,
        "place": place,
        "signed": text.signed,
        "order": order,
        "share": share,
        "count": count,
        "p_value": text.p_value,
    }
    has_regret = content.summary.mean_regret.notna().any()
    return page.get_template("leaderboard.html.jinja").render(
        content=content,
        regrets=figures.regrets(content.summary) if has_regret else "",
        ranks=figures.critical_difference(content.ranks) if content.ranks else "",
        style=inlined("selector.report", "style.css") + inlined(PACKAGE, "style.css"),
        script=inlined("selector.report", "sort.js") + inlined(PACKAGE, "print.js"),
        measures=MEASURES,
        text=text,
        meanings=meanings,
        published=published,
        tables=tables,
    )


def place(value: float) -> str:
    """An average rank, or a dash where nothing was ranked."""
    return f"{value:.2f}" if math.isfinite(value) else text.NONE


def order(value: float) -> str:
    """What a sort compares: the number in full, empty where there is none."""
    return repr(float(value)) if math.isfinite(value) else ""


def share(value: float, ends: tuple[float, float]) -> int:
    """How strongly a cell is coloured, in percent: its distance from the first of the ends, full at the second."""
    low, high = ends
    distance = abs(value - low) if low == 0 else value - low
    return round(100 * min(max(distance / (high - low), 0), 1)) if math.isfinite(value) and high > low else 0


def count(value: float) -> str:
    """A number of images, or a dash where the settings hold none."""
    return str(int(value)) if pd.notna(value) else text.NONE
