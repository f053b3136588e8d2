"""What the page says, finished: its sentences and tables."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.leaderboard import meanings, published, tables
from benchmarks.leaderboard.result import Result

OWN_PLACE = ("suite", "description", "command", "tasks", "versions")  # settings that stand elsewhere in the page


@dataclass(frozen=True, eq=False)
class Content:
    """The finished leaderboard, but for its looks."""

    suite: str
    description: str
    command: str
    verdict: tuple[str, ...]
    facts: tuple[tuple[str, str, str], ...]  # label, value, remark
    summary: pd.DataFrame
    ratios: tuple[str, ...]
    clusters: str  # what intervals are drawn by
    units: str  # what the tests take as independent
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
    settings, summary = result.settings, tables.summary(result)
    return Content(
        suite=settings["suite"],
        description=str(settings.get("description", "")),
        command=str(settings.get("command", "")),
        verdict=tuple(verdict(result, summary)),
        facts=tuple(_facts(result)),
        summary=summary,
        ratios=tuple(result.ratios),
        clusters=tables.LEVELS[tables.level(result, 2)],
        units=tables.LEVELS[tables.unit(result)],
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
    others = {"default": "default", "random": "a random pick", "dsv": "DSV"}
    rest = [
        f"{words} {summary.mean_regret[name]:.3f}"
        for name, words in others.items()
        if name != best and name in summary.index and pd.notna(summary.mean_regret[name])
    ]
    low, high = summary.loc[best, ["mean_regret_low", "mean_regret_high"]]
    between = f" (95% interval {low:.3f} to {high:.3f})" if pd.notna(low) else ""
    against = f"; {', '.join(rest)}" if rest else ""
    yield (
        f"Over {n} case{'s' * (n != 1)}, {best} loses least against the best candidate: "
        f"{summary.mean_regret[best]:.3f} AUROC on average{between}{against}."
    )
    yield f"That {best} is the best was found on these very cases, which flatters it a little."


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
