"""What the page says, finished: its sentences and tables."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.evaluation import judgements
from benchmarks.leaderboard import meanings, published, tables
from benchmarks.leaderboard.detector_kinds import DetectorKinds, by_detector_kind
from benchmarks.leaderboard.gains import Gains, gains
from benchmarks.leaderboard.result import Result

ELSEWHERE = (
    "suite",
    "description",
    "command",
    "tasks",
    "versions",
)  # settings with their own place in the page

CAUTION = " Tasks of one data set share images, so that intervals and p-values over {} are too small."


@dataclass(frozen=True, eq=False)
class Content:
    """The finished leaderboard, but for its looks."""

    suite: str
    description: str
    command: str
    judgements: str  # how often the suite was evaluated, where it is or was held out
    verdict: tuple[str, ...]
    facts: tuple[tuple[str, str, str], ...]  # label, value, remark
    summary: pd.DataFrame
    resolvable: tables.LabelResolvable
    unresolved: str  # which data sets are not label-resolvable, and why
    resolvable_summary: pd.DataFrame | None  # where it differs from the summary
    resolvable_units: str
    ratios: tuple[str, ...]
    units: str  # what intervals and tests take as independent
    caution: str  # against them, where that is not data sets
    ranks: tables.Ranks | None
    tests: pd.DataFrame | None
    gains: Gains | None
    by_task: tuple[tables.ByTask, ...]
    by_kind: tables.ByKind | None
    alignment: tables.Alignment | None
    by_detector_kind: DetectorKinds | None
    published: pd.DataFrame
    ours: pd.Series
    published_ranks: pd.Series
    our_ranks: pd.Series
    failures: pd.DataFrame
    tasks: pd.DataFrame
    settings: Mapping[str, str]
    versions: Mapping[str, str]
    glossary: tuple[tuple[str, str, str, str], ...]  # name, kind, meaning, source


def gather(result: Result) -> Content:
    """Every sentence and table of the leaderboard."""
    settings, summary, resolvable = result.settings, tables.summary(result), tables.label_resolvable(result)
    restricted = result.restrict(resolvable.names) if resolvable.is_mixed else result
    restricted_summary = tables.summary(restricted) if resolvable.is_mixed else None
    levels = set(map(tables.level, (result, restricted)))
    of_restricted = () if restricted_summary is None else on_resolvable(restricted_summary, resolvable)
    return Content(
        suite=settings["suite"],
        description=str(settings.get("description", "")),
        command=str(settings.get("command", "")),
        judgements=judgements.said(settings["suite"]),
        verdict=(*verdict(result, summary), *of_restricted),
        facts=tuple(_facts(result)),
        summary=summary,
        resolvable=resolvable,
        unresolved=unresolved(resolvable),
        resolvable_summary=restricted_summary,
        resolvable_units=tables.LEVELS[tables.level(restricted)],
        ratios=tuple(result.ratios),
        units=tables.LEVELS[tables.level(result)],
        caution="".join(CAUTION.format(tables.LEVELS[name]) for name in sorted(levels - {"group"})),
        ranks=tables.ranks(result),
        tests=tables.against_default(result),
        gains=gains(result),
        by_task=tuple(tables.by_task(result, summary)),
        by_kind=tables.by_kind(result),
        alignment=tables.alignment(result),
        by_detector_kind=by_detector_kind(result),
        published=published.AUC,
        ours=published.ours(result),
        published_ranks=published.average_ranks(),
        our_ranks=published.our_ranks(result),
        failures=tables.failures(result),
        tasks=result.tasks,
        settings={name.replace("_", " "): _text(v) for name, v in settings.items() if name not in ELSEWHERE},
        versions={str(name): str(version) for name, version in dict(settings.get("versions") or {}).items()},
        glossary=tuple((name, meanings.kind(name), *meanings.meaning(name)) for name in summary.index),
    )


def verdict(result: Result, summary: pd.DataFrame) -> Iterator[str]:
    """The answer in one sentence, and its limit in another."""
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
    yield f"That {best} is the best was found on these very cases, which makes its regret a little too small."


def on_resolvable(summary: pd.DataFrame, resolvable: tables.LabelResolvable) -> Iterator[str]:
    """The same of the label-resolvable data sets only."""
    regrets = ", ".join(_mean_regrets(summary))
    yield f"Without {' and '.join(resolvable.others)}, where labels can't choose either: {regrets or 'no regret'}."


def _mean_regrets(summary: pd.DataFrame, but: str = "") -> list[str]:
    ensemble = "the recommended ensemble of its best"
    named = {"default": "default", "ensemble": ensemble, "random": "a random pick"}
    named |= {"random_members": "as many at random", "always_frozen": "always_frozen", "dsv": "DSV"}
    known = [name for name in named if name != but and name in summary.index and pd.notna(summary.mean_regret[name])]
    return [f"{named[name]} {summary.mean_regret[name]:.3f}" for name in known]


def unresolved(resolvable: tables.LabelResolvable) -> str:
    """Which data sets are not label-resolvable, and why."""
    if not resolvable.is_known:
        return "Where labels can choose is not known: the row half_label_oracle is missing (ssad benchmark evaluate)."
    rule = (
        "A data set is label-resolvable where a choice by the labels of half of the images loses less than half of "
        "what the mean candidate loses."
    )
    if not resolvable.others:
        return f"{rule} All are."
    of_each = [
        f"{name} (labels lose {row.half_label_oracle:.3f}, the mean candidate {row.average:.3f})"
        for name, row in resolvable.table.loc[resolvable.others].iterrows()
    ]
    return (
        f"{rule} Not label-resolvable: {', '.join(of_each)}. The candidates differ there by no more than chance, the "
        "best is the luckiest on these images, and a good choice can't be distinguished from a bad one."
    )


def _facts(result: Result) -> Iterator[tuple[str, str, str]]:
    rows = result.rows
    yield "Cases", str(tables.cases(result)), "each a task, a seed and an anomaly ratio"
    yield "Tasks", str(rows.task.nunique()), f"of {rows.group.nunique()} data sets"
    yield "Seeds", str(rows.seed.nunique()), ", ".join(map(str, sorted(rows.seed.unique())))
    yield "Anomaly ratios", str(len(result.ratios)), ", ".join(result.ratios)
    zoo = result.candidates[~result.candidates.augmentation.isin(tables.SCORED_BASELINES)]
    sizes = zoo.groupby(["task", "seed"]).size()
    yield (
        "Candidates",
        str(sizes.max()) if len(sizes) else "0",
        f"per zoo, of {zoo.augmentation.nunique()} augmentations",
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
