"""From evidence to an order of candidates, best first."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from selector import criteria
from selector.criteria import Criterion
from selector.evidence.evidence import Evidence
from selector.execution.threads import in_threads
from selector.ranking.bootstrap import uncertainty
from selector.ranking.comparisons import Comparison
from selector.ranking.evaluation import STATUSES, Evaluation, evaluate_candidate, missing_fields
from selector.ranking.rules import Rule, best_first, chosen_members, deciding_values
from selector.ranking.shift import NOT_COMPARED, ShiftTest
from selector.zoo.candidates import Candidate, columns, descriptions


@dataclass(frozen=True)
class Ranking:
    """The finished table, best first, and what the verdict is made of."""

    table: pd.DataFrame
    spread: pd.DataFrame  # standard deviation over draws and seeds: one row per candidate, one column per criterion
    rule: Rule
    margin: float  # deciding value of the first minus the second, better = positive; nan with one candidate
    margin_spread: float  # its standard deviation over the resamples
    share_first: float  # share of the resamples in which the first comes first
    absent: Mapping[str, str] = field(default_factory=dict)  # criteria without a column, and why
    comparison: ShiftTest = NOT_COMPARED

    def members(self, count: int) -> tuple[str, ...]:
        """The ids of the candidates that form the recommended detector, ``count`` at most."""
        return chosen_members(self.table, count, self.rule.complement)

    @cached_property
    def descriptions(self) -> Mapping[str, str]:
        """Every candidate of the table in a few words: its kind and scorer are named where they vary."""
        return descriptions(self.table.to_dict("records"))

    @property
    def criteria(self) -> tuple[Comparison | Criterion, ...]:
        """Those that have a column, and the comparisons that decide."""
        deciding = {column.name: column for column in self.rule.columns}
        return tuple(deciding.get(name) or criteria.get(name) for name in self.spread.columns)


def rank(
    candidates: Sequence[Candidate],
    records: Mapping[str, dict[str, Any]],
    evidence: Mapping[str, Sequence[Evidence]],
    rule: Rule,
    seed: int,
    comparison: ShiftTest = NOT_COMPARED,
    groups: Sequence[int] | None = None,
) -> Ranking:
    """Rank candidates by ``rule``: trained ones first, collapsed ones after them, failed ones last.

    A candidate whose validation scores are hardly below those of augmented validation images (AUROC under .55)
    never learned its task and is collapsed; a candidate without pseudo anomalies of its own has no such guard. One
    whose deciding criterion is not finite counts as failed, and so does one whose validation or test scores are all
    equal. Ties in a Borda count go to the better value of its first criterion, then to the earlier candidate.

    Candidates that differ in their seed alone share a row: criteria are means over seeds and draws, of those with the
    best status among them, and the candidate of the row is the one of the median deciding value, of two in the middle
    the worse: half of the seeds do as well at least. ``tied`` are the first and all ok candidates that were at least as
    good as it in 5% of the resamples.

    The Borda share of a candidate that there is no other to compare with is nan.

    Of the criteria of "auto" those decide that the evidence of every candidate supports: pseudo anomalies of another
    family need a zoo of several, or a detector that scores embeddings.

    Args:
        candidates: all, in the order that breaks ties.
        records: status and reason by candidate.
        evidence: the draws of each candidate that is ok, read one candidate at a time.
        rule: what decides.
        seed: of the bootstrap.
        comparison: of test and validation images, for the verdict.
        groups: of the validation images, where they have some.
    """
    available = [draws[0].available for draws in evidence.values()]
    rule = rule.supported_by(available)
    missing = {c: missing_fields(available, c) for c in (*criteria.CRITERIA.values(), *rule.custom)}
    chosen = [c for c, fields in missing.items() if not fields or c in rule.criteria]

    def evaluate(candidate_id: str) -> Evaluation:
        return evaluate_candidate(records[candidate_id], evidence.get(candidate_id, ()), chosen, rule)

    evaluations = dict(zip(records, in_threads(evaluate, list(records), rule.max_threads), strict=True))
    places = _place(candidates, evaluations, rule)
    trusted = places.order[: places.n_trusted]
    kinds = {c.id: c.training.detector for c in candidates}
    certainty = uncertainty(trusted, places.members, places.deciding, evidence, rule, seed, kinds, groups)
    absent = {
        c.name: f"needs {', '.join(fields)}, which no candidate has" for c, fields in missing.items() if c not in chosen
    }
    table = _table(candidates, places, certainty.tied)
    compared = trusted or [i for i in places.order if places.statuses[i] == "collapsed"]
    if rule.is_borda and len(compared) == 1:  # a share of no others
        table.loc[table.candidate == compared[0], "criterion"] = math.nan
    return Ranking(
        table,
        places.spread.loc[places.order],
        rule,
        certainty.margin,
        certainty.margin_spread,
        certainty.share_first,
        absent,
        comparison,
    )


def provisional_table(
    candidates: Sequence[Candidate], evaluations: Mapping[str, Evaluation], rule: Rule
) -> pd.DataFrame:
    """The table of ``rank`` without the bootstrap: nothing in it is tied."""
    return _table(candidates, _place(candidates, evaluations, rule), tied=())


@dataclass(frozen=True)
class _Places:
    order: list[str]  # of those that stand for their configurations, best first
    n_trusted: int  # of them, from the first on, are ok
    members: Mapping[str, list[str]]
    deciding: pd.Series
    statuses: Mapping[str, str]
    reasons: Mapping[str, str]
    values: pd.DataFrame
    spread: pd.DataFrame


def _place(candidates: Sequence[Candidate], evaluations: Mapping[str, Evaluation], rule: Rule) -> _Places:
    values = pd.DataFrame({c.id: evaluations[c.id].values for c in candidates}).T
    spread = pd.DataFrame({c.id: evaluations[c.id].spread for c in candidates}).T
    statuses = {c.id: evaluations[c.id].status for c in candidates}
    trained = {c.id for c in candidates if evaluations[c.id].is_trained}
    compared = [c for c in candidates if statuses[c.id] == "ok"]
    for comparison in rule.comparisons:
        readings = [evaluations[c.id].readings[comparison.name] for c in compared]
        beside = comparison(readings, [c.training.detector for c in compared]) if readings else None
        column = pd.Series(beside, [c.id for c in compared], dtype=float)
        values[comparison.name], spread[comparison.name] = column, column * math.nan
    members = _configurations(candidates, statuses, values, trained, rule)
    values, spread = _over_seeds(values, members), _with_seeds(spread, values, members)
    reasons = {
        i: ", ".join(filter(None, (evaluations[i].reason, _left_out(candidates, i, statuses, members[i]))))
        for i in members
    }

    trusted = [i for i in members if statuses[i] == "ok"]
    collapsed = [i for i in members if statuses[i] == "collapsed"]
    # Last of all those without weights: what trained, if only to a useless end, still has a detector to show.
    failed = sorted((i for i in members if statuses[i] == "failed"), key=lambda i: i not in trained)
    reference = values.loc[trusted or collapsed]
    deciding = deciding_values(values, reference, rule).where(~values.index.isin(failed))
    order = [
        *best_first(values.loc[trusted], reference, rule),
        *best_first(values.loc[collapsed], reference, rule),
        *failed,
    ]
    return _Places(order, len(trusted), members, deciding, statuses, reasons, values, spread)


def _configurations(
    candidates: Sequence[Candidate],
    statuses: Mapping[str, str],
    values: pd.DataFrame,
    trained: Collection[str],
    rule: Rule,
) -> dict[str, list[str]]:
    """The candidates that differ in their seed alone and have their best status, by the one that stands for them.

    That is the one of the median deciding value, the worse of two in the middle: half of the seeds do as well at least.
    """
    same: dict[str, list[str]] = {}
    for candidate in candidates:
        same.setdefault(candidate.configuration_id, []).append(candidate.id)
    by_representative = {}
    for ids in same.values():
        status = min((statuses[i] for i in ids), key=STATUSES.index)
        counted = [i for i in ids if statuses[i] == status]
        shown = [i for i in counted if i in trained] or counted
        is_ordered = status == "failed" or len(shown) == 1
        ordered = shown if is_ordered else best_first(values.loc[shown], values.loc[shown], rule)
        by_representative[ordered[len(ordered) // 2]] = counted
    return by_representative


def _over_seeds(values: pd.DataFrame, members: Mapping[str, list[str]]) -> pd.DataFrame:
    if _has_one_seed(members):  # as is done below, for all at once
        return values.loc[list(members)]
    return pd.DataFrame({i: values.loc[ids].mean(skipna=False) for i, ids in members.items()}).T


def _with_seeds(spread: pd.DataFrame, values: pd.DataFrame, members: Mapping[str, list[str]]) -> pd.DataFrame:
    """The standard deviation over seeds and draws together: the variances within seeds and between them add up.

    That between seeds is all there is where each has one draw.
    """
    if _has_one_seed(members):  # as is done below, for all at once
        one = list(members)
        return (spread.loc[one].pow(2) + values.loc[one] * 0).apply(np.sqrt)
    variances = {}
    for i, ids in members.items():
        within = spread.loc[ids].pow(2).mean(skipna=False)
        if len(ids) > 1:
            within = within.fillna(0)
        variances[i] = within + values.loc[ids].var(ddof=0, skipna=False)
    return pd.DataFrame(variances).T.apply(np.sqrt)


def _has_one_seed(members: Mapping[str, list[str]]) -> bool:
    return all(ids == [i] for i, ids in members.items())


def _left_out(
    candidates: Sequence[Candidate], candidate_id: str, statuses: Mapping[str, str], counted: list[str]
) -> str:
    """Which seeds of a configuration do not count in its values, and why."""
    configuration = _find(candidates, candidate_id).configuration_id
    others = [c for c in candidates if c.configuration_id == configuration and c.id not in counted]
    return ", ".join(f"seed {c.training.seed} {statuses[c.id]}" for c in others)


def _find(candidates: Sequence[Candidate], candidate_id: str) -> Candidate:
    return next(c for c in candidates if c.id == candidate_id)


def _table(candidates: Sequence[Candidate], places: _Places, tied: Collection[str]) -> pd.DataFrame:
    described = {row["candidate"]: row for row in columns(candidates)}
    rows = [
        {
            "rank": place,
            **described[i],
            "criterion": places.deciding[i],
            "status": places.statuses[i],
            "reason": places.reasons[i],
            **places.values.loc[i].to_dict(),
            "tied": i in tied,
        }
        for place, i in enumerate(places.order, start=1)
    ]
    return pd.DataFrame(rows)
