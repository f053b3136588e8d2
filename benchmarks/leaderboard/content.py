"""What the page says, finished: its sentences and tables."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.leaderboard import meanings, published, tables
from benchmarks.leaderboard.result import Result
from selector.ranking.rules import DEFAULT_MEMBERS

OWN_PLACE = ("suite", "description", "command", "tasks", "versions")  # settings that stand elsewhere in the page

CAUTION = " Cases of one task share images and candidates, so that p-values over cases are too small."


@dataclass(frozen=True, eq=False)
class Content:
    """The finished leaderboard, but for its looks."""

    suite: str
    description: str
    command: str
    verdict: tuple[str, ...]
    facts: tuple[tuple[str, str, str], ...]  # label, value, remark
    summary: pd.DataFrame
    decidable: tables.Decidable
    undecided: str  # which data sets are not decidable, and why
    decidable_summary: pd.DataFrame | None  # where it is another one than the summary
    decidable_units: str
    ratios: tuple[str, ...]
    clusters: str  # what intervals are drawn by
    units: str  # what the tests take as independent
    caution: str  # against p-values, where cases of one task stand for independent ones
    ranks: tables.Ranks | None
    tests: pd.DataFrame | None
    by_task: tuple[tables.ByTask, ...]
    by_kind: tables.ByKind | None
    alignment: tables.Alignment | None
    published: pd.DataFrame
    ours: pd.Series
    failures: pd.DataFrame
    tasks: pd.DataFrame
    settings: Mapping[str, str]
    versions: Mapping[str, str]
    glossary: tuple[tuple[str, str, str, str], ...]  # name, kind, meaning, source


def gather(result: Result) -> Content:
    """Every sentence and table of the leaderboard."""
    settings, summary, decidable = result.settings, tables.summary(result), tables.decidable(result)
    without = result.restrict(decidable.names) if decidable.some else result
    decided = tables.summary(without) if decidable.some else None
    return Content(
        suite=settings["suite"],
        description=str(settings.get("description", "")),
        command=str(settings.get("command", "")),
        verdict=(*verdict(result, summary), *(on_decidable(decided, decidable) if decided is not None else ())),
        facts=tuple(_facts(result)),
        summary=summary,
        decidable=decidable,
        undecided=undecided(decidable),
        decidable_summary=decided,
        decidable_units=tables.LEVELS[tables.unit(without)],
        ratios=tuple(result.ratios),
        clusters=tables.LEVELS[tables.level(result, 2)],
        units=tables.LEVELS[tables.unit(result)],
        caution=CAUTION if "case" in map(tables.unit, (result, without)) else "",
        ranks=tables.ranks(result),
        tests=tables.against_default(result),
        by_task=tuple(tables.by_task(result, summary)),
        by_kind=tables.by_kind(result),
        alignment=tables.alignment(result),
        published=published.AUC,
        ours=published.ours(result),
        failures=tables.failures(result),
        tasks=result.tasks,
        settings={name.replace("_", " "): _text(v) for name, v in settings.items() if name not in OWN_PLACE},
        versions={str(name): str(version) for name, version in dict(settings.get("versions") or {}).items()},
        glossary=tuple((name, meanings.kind(name), *meanings.meaning(name)) for name in summary.index),
    )


def verdict(result: Result, summary: pd.DataFrame) -> Iterator[str]:
    """The answer in one sentence, and what to hold against it in another."""
    n = tables.cases(result)
    best = next(iter(tables.comparable(result, summary)), None)
    if best is None:
        yield f"Nothing chose a candidate in enough of the {n} cases to be compared."
        return
    rest = _mean_regrets(summary, but=best)
    low, high = summary.loc[best, ["mean_regret_low", "mean_regret_high"]]
    between = f" (95% interval {low:.3f} to {high:.3f})" if pd.notna(low) else ""
    against = f"; {', '.join(rest)}" if rest else ""
    yield (
        f"Over {n} case{'s' * (n != 1)}, {best} loses least against the best candidate: "
        f"{summary.mean_regret[best]:.3f} AUROC on average{between}{against}."
    )
    yield f"That {best} is the best was found on these very cases, which flatters it a little."


def on_decidable(summary: pd.DataFrame, found: tables.Decidable) -> Iterator[str]:
    """The same of the decidable data sets alone."""
    regrets = ", ".join(_mean_regrets(summary))
    yield f"Without {' and '.join(found.others)}, where labels can't choose either: {regrets or 'no regret'}."


def _mean_regrets(summary: pd.DataFrame, but: str = "") -> list[str]:
    ensemble = f"the ensemble of its {DEFAULT_MEMBERS} best"
    named = {"default": "default", "ensemble": ensemble, "random": "a random pick", "dsv": "DSV"}
    known = [name for name in named if name != but and name in summary.index and pd.notna(summary.mean_regret[name])]
    return [f"{named[name]} {summary.mean_regret[name]:.3f}" for name in known]


def undecided(found: tables.Decidable) -> str:
    """Which data sets are not decidable and why, in plain words."""
    if not found.is_known:
        return "Where labels can choose is not known: no case was judged with half of them (ssad benchmark judge)."
    rule = (
        "A data set is decidable where labels of half of the images, asked to choose, lose less than half of what a "
        "random pick does."
    )
    if not found.others:
        return f"{rule} All are."
    of_each = [
        f"{name} (labels lose {row.half_labels:.3f}, a random pick {row.random:.3f})"
        for name, row in found.table.loc[found.others].iterrows()
    ]
    return (
        f"{rule} Not decidable: {', '.join(of_each)}. The candidates differ there by no more than chance, the best is "
        "the luckiest on these images, and a good choice can't be told from a bad one."
    )


def _facts(result: Result) -> Iterator[tuple[str, str, str]]:
    rows = result.rows
    yield "Cases", str(tables.cases(result)), "each a task, a seed and an anomaly ratio"
    yield "Tasks", str(rows.task.nunique()), f"of {rows.data_set.nunique()} data sets"
    yield "Seeds", str(rows.seed.nunique()), ", ".join(map(str, sorted(rows.seed.unique())))
    yield "Anomaly ratios", str(len(result.ratios)), ", ".join(result.ratios)
    zoo = result.candidates[~result.candidates.augmentation.isin(tables.FLOORS)]
    sizes = zoo.groupby(["task", "seed"]).size()
    yield "Candidates", str(sizes.max()) if len(sizes) else "0", f"a zoo, of {zoo.augmentation.nunique()} augmentations"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
