"""The leaderboard as finished text: one row per candidate, one column per criterion."""

import math
from dataclasses import dataclass

import pandas as pd

from selector.ranking.ranking import Ranking
from selector.verdict.verdict import number
from selector.zoo.candidates import interval

SETUP = ("detector", "scorer", "seed")  # shown once, above the table, where all candidates share them


@dataclass(frozen=True)
class Directed:
    """A sortable column of numbers, of which either the highest or the lowest is best."""

    name: str
    higher_is_better: bool

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    @property
    def direction(self) -> str:
        return "higher is better" if self.higher_is_better else "lower is better"


@dataclass(frozen=True)
class Column(Directed):
    """The column of a criterion; ``hint`` explains how to read it."""

    decides: bool
    hint: str


@dataclass(frozen=True)
class Cell:
    """A value and its spread as text; ``order`` is the sort key, empty where there is no value."""

    text: str
    spread: str
    order: str
    is_best: bool


@dataclass(frozen=True)
class Row:
    """The row of a candidate."""

    rank: int
    candidate: str
    augmentation: str
    hyperparameters: str
    setup: tuple[str, ...]
    status: str
    reason: str
    is_tied: bool  # cannot be distinguished from the first, and is not the only such candidate
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Leaderboard:
    """The whole table, ready to be drawn."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    setup: tuple[str, ...]  # the names of the columns of SETUP that differ between candidates
    shared: tuple[tuple[str, str], ...]  # the other names, each with its one value


def leaderboard(ranking: Ranking) -> Leaderboard:
    """The leaderboard of a ranking: the deciding criteria come first; only candidates with status ok can be best."""
    table = ranking.table
    columns = _columns(ranking)
    values = pd.DataFrame({c.name: _values(ranking, c) for c in columns})
    best = {c.name: _best(values[c.name][table.status == "ok"], c.higher_is_better) for c in columns}
    setup = tuple(name for name in SETUP if table[name].nunique() > 1)
    rows = []
    for i, row in enumerate(table.to_dict("records")):
        candidate, status = row["candidate"], row["status"]
        cells = (
            _cell(values[c.name].iloc[i], _spread(ranking, candidate, c.name), best[c.name], status) for c in columns
        )
        rows.append(
            Row(
                rank=row["rank"],
                candidate=row["candidate"],
                augmentation=row["augmentation"],
                hyperparameters=", ".join(f"{k} {interval(v)}" for k, v in row["hyperparameters"].items()),
                setup=tuple(str(row[name]) for name in setup),
                status=row["status"],
                reason=row["reason"],
                is_tied=bool(row["tied"] and table.tied.sum() > 1),
                cells=tuple(cells),
            )
        )
    shared = tuple((name, str(table[name].iloc[0])) for name in SETUP if name not in setup)
    return Leaderboard(columns, tuple(rows), setup, shared)


def _columns(ranking: Ranking) -> tuple[Column, ...]:
    rule = ranking.rule
    borda = Column("Borda", True, True, f"{rule.describe()}: mean share of the other candidates that it beats.")
    deciding_first = sorted(
        ranking.criteria, key=lambda c: rule.names.index(c.name) if c.name in rule.names else math.inf
    )
    own = (
        Column(c.name, c.higher_is_better, c.name in rule.names, f"{c.description} Source: {c.source}.")
        for c in deciding_first
    )
    return (borda, *own) if rule.is_borda else tuple(own)


def _values(ranking: Ranking, column: Column) -> pd.Series:
    return ranking.table["criterion" if column.name == "Borda" else column.name].astype(float)


def _best(values: pd.Series, higher_is_better: bool) -> float:
    finite = values[values.map(math.isfinite)]
    return math.nan if finite.empty else float(finite.max() if higher_is_better else finite.min())


def _spread(ranking: Ranking, candidate: str, name: str) -> float:
    return float(ranking.spread[name][candidate]) if name in ranking.spread else 0.0


def _cell(value: float, spread: float, best: float, status: str) -> Cell:
    if not math.isfinite(value):
        return Cell("none", "", "", False)
    shown = f"{spread:.2g}" if math.isfinite(spread) and spread > 0 else ""
    return Cell(number(value), shown, repr(float(value)), status == "ok" and bool(value == best))
