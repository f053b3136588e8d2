"""From evidence to an order of candidates, best first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from selector import criteria
from selector.criteria import Criterion
from selector.evidence.evidence import Evidence
from selector.execution.execution import in_threads
from selector.ranking.bootstrap import uncertainty
from selector.ranking.evaluation import STATUSES, Measured, held, measure, missing_of
from selector.ranking.rules import Rule, best_first, decide
from selector.ranking.shift import NOT_COMPARED, Comparison
from selector.zoo.candidates import Candidate


@dataclass(frozen=True)
class Ranking:
    """The finished table, best first, and what the verdict is made of."""

    table: pd.DataFrame
    spread: pd.DataFrame  # standard deviation over draws and seeds: a row a candidate, a column a criterion
    rule: Rule
    margin: float  # deciding value of the first minus the second, better = positive; nan with one candidate
    margin_spread: float  # its standard deviation over the resamples
    share_first: float  # share of the resamples in which the first comes first
    absent: Mapping[str, str] = field(default_factory=dict)  # criteria without a column, and why
    comparison: Comparison = NOT_COMPARED

    def first(self, count: int) -> tuple[str, ...]:
        """The ids of the best trusted candidates, ``count`` at most; where none can be trusted, of the first."""
        return first(self.table, count)

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """Those that have a column."""
        return tuple(self.rule.criterion(name) for name in self.spread.columns)


def rank(
    candidates: Sequence[Candidate],
    records: Mapping[str, dict[str, Any]],
    evidence: Mapping[str, Sequence[Evidence]],
    rule: Rule,
    seed: int,
    comparison: Comparison = NOT_COMPARED,
) -> Ranking:
    """Rank candidates by ``rule``: trained ones first, collapsed ones after them, failed ones last.

    A candidate whose validation scores are hardly below those of augmented validation images (AUROC under .55)
    never learned its task and is collapsed; one whose deciding criterion is not finite counts as failed, and so does
    one whose validation or test scores are all equal. Ties in a Borda count go to the better value of its first
    criterion, then to the earlier candidate.

    Candidates that differ in their seed alone share a row: criteria are means over seeds and draws, of those with the
    best status among them, and the candidate of the row is the one of the median deciding value, of two in the middle
    the worse: half of the seeds do as well at least. ``tied`` are the first and all ok candidates that were at least as
    good as it in 5% of the resamples.

    Of the criteria of "auto" those decide that the evidence of every candidate supports: pseudo anomalies of another
    family need a zoo of several, or a detector that scores embeddings.

    comparison: of test and validation images, for the verdict.
    """
    fields = [held(draws[0]) for draws in evidence.values()]
    rule = rule.common(fields)
    known = [*criteria.names(), *([rule.own.name] if rule.own else [])]
    missing = {name: missing_of(fields, rule.criterion(name)) for name in known}
    names = [name for name, fields in missing.items() if not fields or name in rule.names]
    every = in_threads(lambda i: measure(records[i], evidence.get(i, ()), names, rule), list(records), rule.at_once)
    measured = dict(zip(records, every, strict=True))
    places = _place(candidates, measured, rule)
    trusted = places.order[: places.n_trusted]
    found = uncertainty(trusted, places.members, places.deciding, evidence, rule, seed)
    absent = {
        name: f"needs {', '.join(missing[name])}, which no candidate has" for name in missing if name not in names
    }
    return Ranking(
        _table(candidates, places, found.tied),
        places.spread.loc[places.order],
        rule,
        found.margin,
        found.margin_spread,
        found.share_first,
        absent,
        comparison,
    )


def standing(candidates: Sequence[Candidate], measured: Mapping[str, Measured], rule: Rule) -> pd.DataFrame:
    """The table of ``rank`` as far as these measurements go, without the resamples: nothing in it is tied."""
    return _table(candidates, _place(candidates, measured, rule), tied=())


def first(table: pd.DataFrame, count: int) -> tuple[str, ...]:
    """The ids of the best trusted candidates of a ranking, ``count`` at most; where none is trusted, of the first."""
    trusted = table.candidate[table.status == "ok"]
    return tuple(trusted[:count]) or (table.candidate[0],)


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


def _place(candidates: Sequence[Candidate], measured: Mapping[str, Measured], rule: Rule) -> _Places:
    values = pd.DataFrame({c.id: measured[c.id].values for c in candidates}).T
    spread = pd.DataFrame({c.id: measured[c.id].spread for c in candidates}).T
    statuses = {c.id: measured[c.id].status for c in candidates}
    trained = {c.id for c in candidates if measured[c.id].is_trained}
    members = _configurations(candidates, statuses, values, trained, rule)
    values, spread = _over_seeds(values, members), _with_seeds(spread, values, members)
    reasons = {
        i: ", ".join(filter(None, (measured[i].reason, _left_out(candidates, i, statuses, members[i]))))
        for i in members
    }

    trusted = [i for i in members if statuses[i] == "ok"]
    collapsed = [i for i in members if statuses[i] == "collapsed"]
    # Last of all those without weights: what trained, if only to a useless end, still has a detector to show.
    failed = sorted((i for i in members if statuses[i] == "failed"), key=lambda i: i not in trained)
    rivals = values.loc[trusted or collapsed]
    deciding = decide(values, rivals, rule).where(~values.index.isin(failed))
    order = [
        *best_first(values.loc[trusted], rivals, rule),
        *best_first(values.loc[collapsed], rivals, rule),
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
    found = {}
    for ids in same.values():
        status = min((statuses[i] for i in ids), key=STATUSES.index)
        counted = [i for i in ids if statuses[i] == status]
        shown = [i for i in counted if i in trained] or counted
        ordered = shown if status == "failed" else best_first(values.loc[shown], values.loc[shown], rule)
        found[ordered[len(ordered) // 2]] = counted
    return found


def _over_seeds(values: pd.DataFrame, members: Mapping[str, list[str]]) -> pd.DataFrame:
    return pd.DataFrame({i: values.loc[ids].mean(skipna=False) for i, ids in members.items()}).T


def _with_seeds(spread: pd.DataFrame, values: pd.DataFrame, members: Mapping[str, list[str]]) -> pd.DataFrame:
    """The standard deviation over seeds and draws together: the variances within seeds and between them add up."""
    variances = {
        i: spread.loc[ids].pow(2).mean(skipna=False) + values.loc[ids].var(ddof=0, skipna=False)
        for i, ids in members.items()
    }
    return pd.DataFrame(variances).T.apply(np.sqrt)


def _left_out(
    candidates: Sequence[Candidate], candidate_id: str, statuses: Mapping[str, str], counted: list[str]
) -> str:
    """Which seeds of a configuration do not count in its values, and why."""
    own_id = _find(candidates, candidate_id).configuration_id
    others = [c for c in candidates if c.configuration_id == own_id and c.id not in counted]
    return ", ".join(f"seed {c.training.seed} {statuses[c.id]}" for c in others)


def _find(candidates: Sequence[Candidate], candidate_id: str) -> Candidate:
    return next(c for c in candidates if c.id == candidate_id)


def _table(candidates: Sequence[Candidate], places: _Places, tied: Collection[str]) -> pd.DataFrame:
    ordered = [_find(candidates, i) for i in places.order]
    rows = [
        {
            "rank": place,
            "candidate": candidate.id,
            "augmentation": candidate.training.augmentation,
            "hyperparameters": candidate.hyperparameters,
            "detector": candidate.training.detector,
            "scorer": candidate.scorer,
            "seed": candidate.training.seed,
            "criterion": places.deciding[candidate.id],
            "status": places.statuses[candidate.id],
            "reason": places.reasons[candidate.id],
            **places.values.loc[candidate.id].to_dict(),
            "tied": candidate.id in tied,
        }
        for place, candidate in enumerate(ordered, start=1)
    ]
    return pd.DataFrame(rows)
