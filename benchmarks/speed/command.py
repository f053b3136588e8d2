"""How fast this project is against the usual way, and how its cost grows: Markdown tables.

ssad benchmark speed criteria detection --repeat 7 --out runs/speed
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from augmentations.errors import unknown_name
from benchmarks.leaderboard.markdown import print_table
from benchmarks.speed.cases import (
    FULL,
    TINY,
    Sizes,
    of_augmentations,
    of_consensus,
    of_criteria,
    of_detection,
    of_selection,
    of_zoo,
    scaling,
)
from benchmarks.speed.compare import Comparison, Growth
from benchmarks.speed.kinds import of_kinds
from benchmarks.speed.selection_cost import Cost

PARTS: dict[str, Callable[[Sizes, int], list[Any]]] = {
    "augmentations": of_augmentations,
    "criteria": of_criteria,
    "zoo": of_zoo,
    "detection": of_detection,
    "kinds": of_kinds,
    "consensus": of_consensus,
    "selection": of_selection,
    "scaling": scaling,
}


def speed(
    part: Annotated[list[str] | None, typer.Argument(help=f"What to time: {', '.join(PARTS)}. [default: all]")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Pairs of runs per row.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Folder for speed.csv, selection.csv and scaling.csv.")] = None,
    tiny: Annotated[bool, typer.Option(help="Tiny sizes, to see that it works, not to measure.")] = False,
) -> None:
    """Time the parts of this project against the usual way of doing the same, and how their cost grows.

    Example: ssad benchmark speed criteria detection --repeat 3
    """
    for name in part or []:
        if name not in PARTS:
            raise unknown_name("part", name, list(PARTS))
    rows = [row for name in part or PARTS for row in PARTS[name](TINY if tiny else FULL, repeat)]
    comparisons = [row for row in rows if isinstance(row, Comparison)]
    costs = [row for row in rows if isinstance(row, Cost)]
    growths = [row for row in rows if isinstance(row, Growth)]
    for file, part_rows, cells in (
        ("speed.csv", comparisons, map(comparison_cells, comparisons)),
        ("selection.csv", costs, map(cost_cells, costs)),
        ("scaling.csv", growths, map(growth_cells, growths)),
    ):
        if not part_rows:
            continue
        print_table(pd.DataFrame(list(cells)))
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            pd.DataFrame([asdict(row) for row in part_rows]).to_csv(out / file, index=False)


def comparison_cells(row: Comparison) -> dict[str, str]:
    """A row of a table, by column."""
    return {
        "part": row.part,
        "setting": row.setting,
        "ours s": f"{row.ours_seconds:.3g}",
        "usual s": f"{row.usual_seconds:.3g}",
        "usual / ours": f"{row.ratio:.3g} ({row.ratio_low:.3g} to {row.ratio_high:.3g})",
        "ours MB": f"{row.ours_mb:.0f}",
        "usual MB": f"{row.usual_mb:.0f}",
    }


def cost_cells(row: Cost) -> dict[str, str]:
    """A row of a table, by column."""
    return {
        "selection among": row.setting,
        "criteria, one draw, s": f"{row.criteria_seconds:.3g}",
        "ranking s": f"{row.ranking_seconds:.3g}",
        "consensus s": f"{row.consensus_seconds:.3g}",
        "processor s": f"{row.cpu_seconds:.3g}",
        "peak MB": f"{row.peak_mb:.0f}",
        "of it added": f"{row.rise_mb:.0f}",
    }


def growth_cells(row: Growth) -> dict[str, str]:
    """A row of a table, by column."""
    measured = ", ".join(f"{size}: {s:.3g} s" for size, s in zip(row.sizes, row.seconds, strict=True))
    return {"seconds of": row.what, "by": row.of, "seconds": measured, "exponent": f"{row.exponent:.2f}"}
