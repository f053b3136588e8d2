"""What criteria make of one candidate, and the status that it deserves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from selector import criteria
from selector.criteria import Criterion, probability_above
from selector.criteria import custom as own
from selector.evidence.evidence import Evidence
from selector.ranking.rules import Rule
from selector.ranking.shift import Comparison
from selector.ranking.shift import compare as compare_scores

COLLAPSE_AUROC = 0.55  # validation against augmented validation scores: below it the proxy was not learned
FEWEST_TO_COMPARE = 20  # validation images; with fewer, no shift can be found
STATUSES = ("ok", "collapsed", "failed")  # best first


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


def _guard(evidence: Evidence, values: pd.Series, rule: Rule, trouble: str) -> tuple[str, str]:
    """The status that a trained candidate deserves, and why."""
    constant = [name for name in ("validation_scores", "test_scores") if _is_constant(getattr(evidence, name))]
    equal = f"all {' and '.join(name.replace('_', ' ') for name in constant)} are equal" if constant else ""
    without = {name: _why(evidence, rule.criterion(name)) for name in values.index if not math.isfinite(values[name])}
    unusable = [without[name] for name in rule.names if name in without]
    if unusable or constant:
        return "failed", trouble or ": ".join(filter(None, (*unusable[:1], equal)))
    auroc = proxy_auroc(evidence)
    if auroc < COLLAPSE_AUROC:
        return "collapsed", f"pseudo anomalies are not told from normal images (AUROC {auroc:.2f} < {COLLAPSE_AUROC})"
    return "ok", ", ".join(without.values())


def _why(evidence: Evidence, criterion: Criterion) -> str:
    """Why a criterion has no value."""
    lacking = missing_of([held(evidence)], criterion)
    return f"{criterion.name} needs {', '.join(lacking)}" if lacking else f"{criterion.name} is not finite"


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
        if usable and proxy_auroc(draws[0]) >= COLLAPSE_AUROC:
            of_validation.append(v.double().cpu())
            of_test.append(t.double().cpu())
    if not of_test:
        return "no candidate can be trusted"
    if len(of_validation[0]) < FEWEST_TO_COMPARE:
        return f"{len(of_validation[0])} validation images are fewer than {FEWEST_TO_COMPARE}"
    return torch.stack(of_validation, 1), torch.stack(of_test, 1)


def proxy_auroc(evidence: Evidence) -> float:
    """How well a candidate's own pseudo anomalies are told from held-out normal images."""
    assert evidence.validation_scores is not None
    assert evidence.augmented_scores is not None
    return probability_above(evidence.validation_scores, evidence.augmented_scores).item()


def held(evidence: Evidence) -> frozenset[str]:
    """The fields that are there."""
    return frozenset(name for name, _ in evidence.items())


def missing_of(fields: Sequence[frozenset[str]], criterion: Criterion) -> list[str]:
    """What of a criterion's needs the candidates lack, empty where one of them holds all."""
    lacks = [[name for name in criterion.needs if name not in one] for one in fields]
    return min(lacks, key=len, default=list(criterion.needs))


def _is_constant(scores: Tensor | None) -> bool:
    """Whether scores tell no image from another."""
    return scores is not None and len(scores) > 1 and bool(scores.min() == scores.max())
