"""From evidence to an order of candidates: criteria, guards, and how sure the first place is."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from selector import consensus, criteria, own
from selector.candidates import Candidate
from selector.criteria import Criterion, probability_above
from selector.evidence import EMBEDDINGS, SCORES, Evidence
from selector.execution import MOST_THREADS, in_threads
from selector.shift import NOT_COMPARED, Comparison
from selector.shift import compare as compare_scores

COLLAPSE_AUROC = 0.55  # validation against augmented validation scores: below it the proxy was not learned
# Of four criteria, those whose Borda lost least on the suite `development` without a consensus between candidates.
AUTO = ("score_upper_95", "score_upper", "npd", "rtm")
# Of single criteria and Bordas, what lost least on `development` under controlled shifts (benchmarks/shifts.py).
UNDER_SHIFT = ("rtm",)
FEWEST_VALIDATION = 20  # images; with fewer, npd is too noisy to decide with alone, and no shift can be found
STATUSES = ("ok", "collapsed", "failed")  # best first
COLUMNS = (  # of the table, beside those of criteria
    *("rank", "candidate", "augmentation", "hyperparameters", "detector", "scorer", "seed"),
    *("criterion", "status", "reason", "tied"),
)
TIED_SHARE = 0.05  # of the resamples: who is at least as good as the first in so many can't be told from it
SCORES_AT_ONCE = 2**20  # of all resamples of a candidate: some 8 MB a temporary
RESAMPLES = 50  # of the augmented draws and the unlabeled and validation images, for the verdict's error bar


@dataclass(frozen=True)
class Rule:
    """What decides: one criterion by its value, or several by Borda (mean share of candidates beaten)."""

    names: tuple[str, ...]
    reason: str = ""
    own: Criterion | None = None  # the user's, which decides alone
    asked: bool = False  # for by name, so that none may be left out

    @property
    def is_borda(self) -> bool:
        return len(self.names) > 1

    @property
    def higher_is_better(self) -> bool:
        return self.is_borda or self.criterion(self.names[0]).higher_is_better

    def criterion(self, name: str) -> Criterion:
        """The built-in criterion of this name, or the user's."""
        return self.own if self.own is not None and name == self.own.name else criteria.get(name)

    def common(self, fields: Sequence[frozenset[str]]) -> "Rule":
        """The criteria that every candidate supports, by the fields that each holds; all, where the user asked for them
        or none is supported."""
        if self.asked:
            return self
        shared = tuple(
            name for name in self.names if all(set(self.criterion(name).needs) <= set(one) for one in fields)
        )
        return replace(self, names=shared or self.names)

    @property
    def reads(self) -> frozenset[str]:
        """The fields of the evidence that it looks at; all, where the user's function does not say."""
        needs = [self.criterion(name).needs for name in self.names]
        return frozenset(EMBEDDINGS + SCORES if self.own is not None else sum(needs, ()))

    @property
    def at_once(self) -> int:
        """How many threads may evaluate it: a user's function need not bear more than one."""
        return MOST_THREADS if self.own is None else 1

    def to_json(self) -> dict[str, Any]:
        """What is kept; of the user's criterion all but the function."""
        return {"names": self.names, "reason": self.reason, "own": self.own and own.to_json(self.own)}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Rule":
        """The rule as it was kept."""
        users = kept.get("own")
        return cls(tuple(kept["names"]), kept["reason"], users and own.from_json(users))

    def describe(self) -> str:
        return f"Borda over {', '.join(self.names[:-1])} and {self.names[-1]}" if self.is_borda else self.names[0]


Deciding = str | Criterion | own.Function | Sequence[str]  # what a user may name


def rule(criterion: Deciding, n_validation: int, has_test: bool = True, is_shifted: bool = False) -> Rule:
    """The deciding rule of a criterion, of its name, or of several names, whose Borda it is.

    "auto" is Borda over what loses least on the development benchmark, or rtm alone where test images do not resemble
    validation images (``is_shifted``).
    Without test images "auto" is Borda over pseudo_auc and npd, or pseudo_auc alone. Raises InputError for an unknown
    name, a user's criterion without a free one, several of which one comes twice or is a function, or one that needs
    test images where there are none.
    """
    if isinstance(criterion, Sequence) and not isinstance(criterion, str):
        if not criterion or len(set(criterion)) < len(criterion) or not all(isinstance(c, str) for c in criterion):
            remedy = 'try ("dsv", "rtm") with names of selector.criteria.names(), or a function alone'
            raise InputError(f"criterion={criterion!r}", "must be names of criteria, each once", remedy)
        names = tuple(_usable(name, has_test).name for name in criterion)
        return Rule(names, "chosen by the user", asked=True)
    if criterion != "auto":
        chosen = _usable(criterion, has_test)
        built_in = chosen is criteria.CRITERIA.get(chosen.name)
        return Rule((chosen.name,), "chosen by the user", None if built_in else chosen, asked=True)
    if not has_test:
        return _inductive(n_validation)
    if is_shifted:
        return Rule(
            UNDER_SHIFT, "auto: validation images do not resemble the normal test images, so test scores alone decide"
        )
    return Rule(AUTO, "auto: the high test scores against held-out normal ones, their tail, and pseudo anomalies")


def _usable(given: str | Criterion | own.Function, has_test: bool) -> Criterion:
    chosen = _criterion(given)
    if chosen.needs_test and not has_test:
        raise InputError(
            f"criterion {chosen.name!r}",
            "looks at test images, and none were given",
            f'give test images, or choose one of {", ".join(criteria.inductive())}, or "auto"',
        )
    return chosen


def _criterion(given: str | Criterion | own.Function) -> Criterion:
    if any(given is built_in for built_in in criteria.CRITERIA.values()):
        return cast(Criterion, given)
    if not isinstance(given, str):
        return own.own(given, (*criteria.names(), *consensus.names(), *COLUMNS))
    try:
        return criteria.get(given)
    except InputError as error:
        raise InputError(f"criterion {given!r}", error.rule, f'{error.remedy} Or "auto"') from error


def _inductive(n_validation: int) -> Rule:
    if n_validation < FEWEST_VALIDATION:
        few = f"{n_validation} validation images are fewer than {FEWEST_VALIDATION}, too few for npd"
        return Rule(("pseudo_auc",), f"auto: no test images were given; {few}")
    return Rule(("pseudo_auc", "npd"), "auto: no test images were given, so pseudo anomalies of other kinds decide")


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
    missing = {name: _missing(fields, rule.criterion(name)) for name in known}
    names = [name for name, fields in missing.items() if not fields or name in rule.names]
    every = in_threads(lambda i: measure(records[i], evidence.get(i, ()), names, rule), list(records), rule.at_once)
    measured = dict(zip(records, every, strict=True))
    places = _place(candidates, measured, rule)
    found = _uncertainty(places, evidence, rule, seed)
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


@dataclass(frozen=True)
class Measured:
    """What criteria make of one candidate: means and standard deviations over its draws, and the status it deserves."""

    values: pd.Series  # nan where not finite
    spread: pd.Series
    status: str
    reason: str
    is_trained: bool


def measure(record: Mapping[str, Any], draws: Sequence[Evidence], names: Sequence[str], rule: Rule) -> Measured:
    """The named criteria, the deciding ones among them, of a finished candidate; ``draws`` are read where it is ok."""
    if record["status"] != "ok":
        none = pd.Series(math.nan, index=list(names))
        return Measured(none, none, record["status"], record["reason"], is_trained=False)
    mean, deviation, trouble = _over_draws(draws, names, rule)
    return Measured(mean.where(np.isfinite(mean)), deviation, *_guard(draws[0], mean, rule, trouble), is_trained=True)


def standing(candidates: Sequence[Candidate], measured: Mapping[str, Measured], rule: Rule) -> pd.DataFrame:
    """The table of ``rank`` as far as these measurements go, without the resamples: nothing in it is tied."""
    return _table(candidates, _place(candidates, measured, rule), tied=())


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


def first(table: pd.DataFrame, count: int) -> tuple[str, ...]:
    """The ids of the best trusted candidates of a ranking, ``count`` at most; where none is trusted, of the first."""
    trusted = table.candidate[table.status == "ok"]
    return tuple(trusted[:count]) or (table.candidate[0],)


def compare(evidence: Iterable[Sequence[Evidence]], seed: int) -> Comparison:
    """Test against validation images, by the scores of all candidates that did not collapse; or why not.

    evidence: the draws of each candidate, of which no more than one's need be in memory.
    """
    scores = comparable(evidence)
    return Comparison(reason=scores) if isinstance(scores, str) else compare_scores(*scores, seed)


def comparable(evidence: Iterable[Sequence[Evidence]]) -> tuple[Tensor, Tensor] | str:
    """The validation (h,c) and test scores (k,c) of all candidates that did not collapse; or why there are none."""
    of_validation, of_test = [], []
    for draws in evidence:
        v, t = draws[0].validation_scores, draws[0].test_scores
        if t is None:
            return "no test images were given"
        assert v is not None
        usable = not any(_is_constant(scores) or not scores.isfinite().all() for scores in (v, t))
        if usable and _proxy_auroc(draws[0]) >= COLLAPSE_AUROC:
            of_validation.append(v.double().cpu())
            of_test.append(t.double().cpu())
    if not of_test:
        return "no candidate can be trusted"
    if len(of_validation[0]) < FEWEST_VALIDATION:
        return f"{len(of_validation[0])} validation images are fewer than {FEWEST_VALIDATION}"
    return torch.stack(of_validation, 1), torch.stack(of_test, 1)


def _proxy_auroc(evidence: Evidence) -> float:
    """How well a candidate's own pseudo anomalies are told from held-out normal images."""
    assert evidence.validation_scores is not None
    assert evidence.augmented_scores is not None
    return probability_above(evidence.validation_scores, evidence.augmented_scores).item()


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


def held(evidence: Evidence) -> frozenset[str]:
    """The fields that are there."""
    return frozenset(name for name, _ in evidence.items())


def _missing(fields: Sequence[frozenset[str]], criterion: Criterion) -> list[str]:
    """What of a criterion's needs the candidates lack, empty where one of them holds all."""
    lacks = [[name for name in criterion.needs if name not in one] for one in fields]
    return min(lacks, key=len, default=list(criterion.needs))


def decide(values: pd.DataFrame, rivals: pd.DataFrame, rule: Rule) -> pd.Series:
    """The deciding value of each row of criterion values: the criterion's own, or the Borda share in [0, 1].

    The Borda share is the mean over the rule's criteria of the share of ``rivals`` beaten, a tie counting half.
    """
    if not rule.is_borda:
        return values[rule.names[0]]
    other = values.index.to_numpy()[:, None] != rivals.index.to_numpy()
    # Points are halves, whose sum is exact: equal shares are equal, and their tie is broken as ``best_first`` says.
    points = np.sum([_points(values[name], rivals[name], other, name) for name in rule.names], axis=0)
    return pd.Series(points / (len(rule.names) * np.maximum(other.sum(1), 1)), values.index)


def _points(values: pd.Series, rivals: pd.Series, other: np.ndarray, name: str) -> np.ndarray:
    sign = 1 if criteria.get(name).higher_is_better else -1
    own, others = sign * values.to_numpy()[:, None], sign * rivals.to_numpy()
    return (((own > others) + 0.5 * (own == others)) * other).sum(1)


def best_first(values: pd.DataFrame, rivals: pd.DataFrame, rule: Rule) -> list[str]:
    """The rows of criterion values in the order of the rule, ties broken as ``rank`` says."""
    first = rule.names[0]
    sign = 1 if rule.criterion(first).higher_is_better else -1
    deciding = decide(values, rivals, rule) * (1 if rule.is_borda else sign)
    # Of the keys the last comes first; nan is behind all numbers.
    order = np.lexsort([-sign * values[first].to_numpy(float), -deciding.to_numpy(float)])
    return list(values.index[order])


def _over_draws(draws: Sequence[Evidence], names: Sequence[str], rule: Rule) -> tuple[pd.Series, pd.Series, str]:
    """Mean and standard deviation of every criterion over the augmented draws; 0 where no draw enters, nan where the
    evidence does not support one; and what was wrong with the user's own."""
    built_in = [name for name in names if rule.own is None or name != rule.own.name]
    supported = [name for name in built_in if draws[0].has(criteria.get(name).needs)]
    fixed = [name for name in supported if not criteria.get(name).uses_draws]
    drawn = [name for name in supported if criteria.get(name).uses_draws]
    rows = pd.DataFrame([criteria.evaluate(draw, drawn) for draw in draws])
    once = pd.Series(criteria.evaluate(draws[0], fixed), dtype=float)
    mean, deviation = rows.mean(skipna=False), rows.std(ddof=0, skipna=False)
    columns, trouble = list(names), ""
    mean, deviation = pd.concat([once, mean]).reindex(columns), pd.concat([once * 0, deviation]).reindex(columns)
    if rule.own is not None:
        try:
            measured = [own.measure(rule.own, draw) for draw in draws]
        except own.OwnCriterionError as error:
            measured, trouble = [math.nan], str(error)
        with np.errstate(invalid="ignore"):  # an infinity has no spread
            mean[rule.own.name], deviation[rule.own.name] = np.mean(measured), np.std(measured)
    return mean, deviation, trouble


def _measured(evidence: Evidence, rule: Rule) -> dict[str, float]:
    """What decides, of one candidate."""
    if rule.own is None:
        return criteria.evaluate(evidence, rule.names)
    try:
        return {rule.own.name: own.measure(rule.own, evidence)}
    except own.OwnCriterionError:
        return {rule.own.name: math.nan}


def _guard(evidence: Evidence, values: pd.Series, rule: Rule, trouble: str) -> tuple[str, str]:
    """The status that a trained candidate deserves, and why."""
    constant = [name for name in ("validation_scores", "test_scores") if _is_constant(getattr(evidence, name))]
    equal = f"all {' and '.join(name.replace('_', ' ') for name in constant)} are equal" if constant else ""
    without = {name: _why(evidence, rule.criterion(name)) for name in values.index if not math.isfinite(values[name])}
    unusable = [without[name] for name in rule.names if name in without]
    if unusable or constant:
        return "failed", trouble or ": ".join(filter(None, (*unusable[:1], equal)))
    auroc = _proxy_auroc(evidence)
    if auroc < COLLAPSE_AUROC:
        return "collapsed", f"pseudo anomalies are not told from normal images (AUROC {auroc:.2f} < {COLLAPSE_AUROC})"
    return "ok", ", ".join(without.values())


def _why(evidence: Evidence, criterion: Criterion) -> str:
    """Why a criterion has no value."""
    lacking = _missing([held(evidence)], criterion)
    return f"{criterion.name} needs {', '.join(lacking)}" if lacking else f"{criterion.name} is not finite"


def _is_constant(scores: Tensor | None) -> bool:
    """Whether scores tell no image from another."""
    return scores is not None and len(scores) > 1 and bool(scores.min() == scores.max())


@dataclass(frozen=True)
class _Uncertainty:
    margin: float = math.nan
    margin_spread: float = math.nan
    share_first: float = math.nan
    tied: frozenset[str] = frozenset()


def _uncertainty(places: _Places, evidence: Mapping[str, Sequence[Evidence]], rule: Rule, seed: int) -> _Uncertainty:
    """Margin of first over second, its spread, how often the first stays first, and who can't be told from it.

    A resample takes the next augmented draw and a bootstrap of the test images, of the validation images (and what was
    made of these) and of the seeds, the same for all candidates, so that what they share cancels in the difference.
    Evidence is read a candidate at a time, so that memory does not grow with them.
    """
    order, members, deciding = places.order[: places.n_trusted], places.members, places.deciding
    if len(order) < 2:
        return _Uncertainty(tied=frozenset(order))
    sign = 1 if rule.higher_is_better else -1
    seeds = max(len(members[i]) for i in order)
    of_seeds = generator(seed, "resamples", "seeds")
    picked = torch.stack([torch.randint(seeds, (seeds,), generator=of_seeds) for _ in range(RESAMPLES)]).numpy()
    drawn = _bootstraps(evidence[order[0]][0], generator(seed, "resamples"))
    of_one = partial(_resampled, picked=picked, evidence=evidence, drawn=drawn, rule=rule)
    resampled = np.stack(in_threads(lambda i: of_one(members[i]), order, rule.at_once))
    margins, firsts, as_good = [], 0, pd.Series(0, index=order)
    for resample in range(RESAMPLES):
        table = pd.DataFrame(resampled[:, resample], order, list(rule.names))
        decided = sign * decide(table, table, rule)
        margins.append(decided[order[0]] - decided[order[1]])
        firsts += best_first(table, table, rule)[0] == order[0]
        as_good += decided >= decided[order[0]]
    margin = sign * (deciding[order[0]] - deciding[order[1]])
    tied = as_good.index[(as_good >= TIED_SHARE * RESAMPLES) | (as_good.index == order[0])]
    return _Uncertainty(float(margin), float(np.nanstd(margins)), firsts / RESAMPLES, frozenset(tied))


def _bootstraps(evidence: Evidence, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which test images (resamples, k), where there are any, and which validation images (resamples, h) they take.

    Test images are drawn by their place in the order of one candidate's scores, and not by that in which they were
    read: names of files set the latter, and must not matter.
    """
    assert evidence.validation_scores is not None
    places = torch.empty(0, dtype=torch.long) if evidence.test_scores is None else evidence.test_scores.argsort()
    k, h = len(places), len(evidence.validation_scores)
    drawn = [
        (places[torch.randint(max(k, 1), (k,), generator=source)], torch.randint(h, (h,), generator=source))
        for _ in range(RESAMPLES)
    ]
    test, validation = zip(*drawn, strict=True)
    return torch.stack(test), torch.stack(validation)


def _resampled(
    seeds: Sequence[str],
    picked: np.ndarray,
    evidence: Mapping[str, Sequence[Evidence]],
    drawn: tuple[Tensor, Tensor],
    rule: Rule,
) -> np.ndarray:
    """What decides of one configuration in each resample, (resamples, names): the mean over the seeds it picked."""
    total = np.zeros((RESAMPLES, len(rule.names)))
    for place, candidate_id in enumerate(seeds):
        share = (picked % len(seeds) == place).mean(axis=1)
        taken = np.flatnonzero(share)
        if not len(taken):  # a seed that no resample picked
            continue
        total[taken] += share[taken, None] * _each_resample(evidence[candidate_id], taken, drawn, rule)
    return total


def _each_resample(
    draws: Sequence[Evidence], taken: np.ndarray, drawn: tuple[Tensor, Tensor], rule: Rule
) -> np.ndarray:
    """What decides of one candidate in the resamples that are taken, (taken, names)."""
    tests, validations = (rows[taken] for rows in drawn)

    def again(draw: Evidence, test: Tensor, validation: Tensor) -> Evidence:
        return draw.with_rows(**rows_of(draw, test, validation, rule.reads))

    if not rule.reads <= frozenset(SCORES):
        measured = [
            _measured(again(draws[resample % len(draws)], test, validation), rule)
            for resample, test, validation in zip(taken.tolist(), tests, validations, strict=True)
        ]
        return np.array([[values[name] for name in rule.names] for values in measured])

    # Scores are few, so that calling functions costs more than what they do: all resamples at once.
    def of_scores(test: Tensor, validation: Tensor) -> Tensor:
        resample = again(draws[0], test, validation)
        return torch.stack([rule.criterion(name)(resample) for name in rule.names])

    at_once = max(1, SCORES_AT_ONCE // (tests.shape[1] + validations.shape[1]))
    with torch.no_grad():
        return torch.vmap(of_scores, chunk_size=at_once)(tests, validations).numpy()


def rows_of(
    evidence: Evidence, test: Tensor, validation: Tensor, reads: Collection[str] = EMBEDDINGS + SCORES
) -> dict[str, Tensor]:
    """The rows that belong to these test and validation images, by field of the evidence that is read.

    Pseudo anomalies come in blocks of one for each validation image, which go with it.
    """
    assert evidence.validation_scores is not None
    n = len(evidence.validation_scores)
    rows = dict.fromkeys(("test", "test_scores"), test) | dict.fromkeys(("validation", "validation_scores"), validation)
    for name in ("augmented_scores", "pseudo_scores"):
        if evidence.has((name,)) and len(getattr(evidence, name)) % n == 0:
            starts = torch.arange(0, len(getattr(evidence, name)), n)
            rows[name] = (starts[:, None] + validation).flatten()
    return {name: index for name, index in rows.items() if name in reads and evidence.has((name,))}


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
