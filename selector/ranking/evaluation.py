"""What criteria make of one candidate, and the status that it deserves."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from augmentations.errors import first_few
from selector import criteria
from selector.criteria import Criterion, custom, embedding
from selector.evidence.auroc import probability_above
from selector.evidence.evidence import Evidence
from selector.ranking.comparisons import Comparison
from selector.ranking.rules import Rule
from selector.ranking.shift import FEWEST_GROUPS, ShiftTest, shift_and_anomaly_tests

COLLAPSE_AUROC = 0.55  # validation against augmented validation scores: below it the proxy was not learned
MIN_VALIDATION_FOR_SHIFT = 20  # validation images; with fewer, no shift can be found
STATUSES = ("ok", "collapsed", "failed")  # best first


@dataclass(frozen=True)
class Evaluation:
    """What criteria make of one candidate.

    Args:
        values: of each criterion the mean over draws, nan where not finite or not supported by the evidence.
        spread: of each the standard deviation over draws, and with it the standard error from a sample of the rows of a
            large set, whose squares add up; nan where there is one draw only.
        status: "ok", "collapsed" or "failed".
        reason: why it has that status; of a candidate that is ok, why criteria have no value.
        is_trained: whether there is a detector.
        readings: by comparison that decides, what it reads of the candidate; empty unless it is ok.
    """

    values: pd.Series
    spread: pd.Series
    status: str
    reason: str
    is_trained: bool
    readings: Mapping[str, Any] = field(default_factory=dict)


def evaluate_candidate(
    record: Mapping[str, Any], draws: Sequence[Evidence], chosen: Sequence[Criterion], rule: Rule
) -> Evaluation:
    """Evaluate criteria on one finished candidate.

    Args:
        record: its status and reason; ``draws`` are read only where it is ok.
        draws: its evidence, once per draw of its pseudo anomalies; one where there are no draws.
        chosen: the criteria, the deciding ones among them.
        rule: what decides.
    """
    if record["status"] != "ok":
        none = pd.Series(math.nan, index=[criterion.name for criterion in chosen])
        return Evaluation(none, none, record["status"], record["reason"], is_trained=False)
    mean, deviation, trouble = _over_draws(draws, chosen, rule)
    status, reason = _guard(draws[0], mean, chosen, rule, trouble)
    readings = {c.name: c.read(draws[0]) for c in rule.comparisons} if status == "ok" else {}
    return Evaluation(mean.where(np.isfinite(mean)), deviation, status, reason, is_trained=True, readings=readings)


def _over_draws(
    draws: Sequence[Evidence], chosen: Sequence[Criterion], rule: Rule
) -> tuple[pd.Series, pd.Series, dict[str, str]]:
    """Mean and standard deviation of every criterion over the augmented draws, and what was wrong with a user's own.

    All draws have the same sample of the test rows, so that its error is that of one of them. The deviation is 0 where
    no draw enters and nan where one alone does; both are nan where the evidence does not support a criterion.
    """
    if not chosen:
        return pd.Series(dtype=float), pd.Series(dtype=float), {}
    supported = [c for c in chosen if c not in rule.custom and draws[0].has(c.needs)]
    fixed = [criterion for criterion in supported if not criterion.uses_draws]
    drawn = [criterion for criterion in supported if criterion.uses_draws]
    rows = pd.DataFrame([criteria.evaluate(draw, drawn) for draw in draws], dtype=float)
    once = pd.Series(criteria.evaluate(draws[0], fixed), dtype=float)
    columns = [criterion.name for criterion in chosen]
    mean = pd.concat([once, rows.mean(skipna=False)]).reindex(columns)
    sampling = pd.Series(embedding.standard_errors(draws[0], drawn), dtype=float)
    deviation = pd.concat([once * 0, np.hypot(rows.std(ddof=0, skipna=False), sampling)]).reindex(columns)
    trouble = {}
    for criterion in rule.custom:
        try:
            values = [custom.evaluate(criterion, draw) for draw in draws]
        except custom.CustomCriterionError as error:
            values, trouble[criterion.name] = [math.nan], str(error)
        with np.errstate(invalid="ignore"):  # an infinity has no spread
            mean[criterion.name], deviation[criterion.name] = np.mean(values), np.std(values)
    if len(draws) == 1 and draws[0].augmented is not None:  # a function does not say what it is computed from
        unknown = [c.name for c in chosen if c.uses_draws or (c in rule.custom and not c.needs)]
        deviation[unknown] = math.nan
    return mean, deviation, trouble


def _guard(
    evidence: Evidence, values: pd.Series, chosen: Sequence[Criterion], rule: Rule, trouble: Mapping[str, str]
) -> tuple[str, str]:
    """The status that a trained candidate deserves, and why."""
    constant = [name for name in ("validation_scores", "test_scores") if _is_constant(getattr(evidence, name))]
    equal = f"all {' and '.join(name.replace('_', ' ') for name in constant)} are equal" if constant else ""
    without = {c.name: _why_no_value(evidence, c) for c in chosen if not math.isfinite(values[c.name])}
    unusable = [without[name] for name in rule.names if name in without]
    unusable += [
        _lacks(c.name, missing) for c in rule.comparisons if (missing := missing_fields([evidence.available], c))
    ]
    if unusable or constant:
        return "failed", next(iter(trouble.values()), "") or ": ".join(filter(None, (*unusable[:1], equal)))
    auroc = proxy_auroc(evidence)
    if auroc is not None and auroc < COLLAPSE_AUROC:
        why = f"pseudo anomalies are not distinguished from normal images (AUROC {auroc:.2f} < {COLLAPSE_AUROC})"
        return "collapsed", why
    return "ok", _in_short(evidence, [c for c in chosen if c.name in without])


def _in_short(evidence: Evidence, criteria: Sequence[Criterion]) -> str:
    """Why criteria have no value, those that lack the same fields together."""
    by_reason: dict[str, list[str]] = {}
    for criterion in criteria:
        by_reason.setdefault(_why_no_value(evidence, criterion).removeprefix(criterion.name), []).append(criterion.name)
    return ", ".join(
        first_few(names) + (reason.replace(" needs ", " need ").replace(" is ", " are ") if len(names) > 1 else reason)
        for reason, names in by_reason.items()
    )


def _why_no_value(evidence: Evidence, criterion: Criterion) -> str:
    missing = missing_fields([evidence.available], criterion)
    return _lacks(criterion.name, missing) if missing else f"{criterion.name} is not finite"


def _lacks(name: str, missing: Collection[str]) -> str:
    return f"{name} needs {', '.join(missing)}"


def test_for_shift(
    evidence: Iterable[Sequence[Evidence]],
    seed: int,
    groups: Sequence[int] | None = None,  # noqa: PT028
) -> ShiftTest:
    """The tests of test images against validation images, by the scores of all candidates.

    A candidate that collapsed takes part like any other: to leave out those whose validation scores are high would
    leave those whose validation scores are low by chance, and the p-value of high test scores would be too small.

    Args:
        evidence: the draws of each candidate, of which no more than one's need be in memory. Which candidates there are
            must not depend on how they score the images.
        seed: of the permutations.
        groups: of the validation images, where they have some.
    """
    scores = comparable_scores(evidence, groups)
    return ShiftTest(reason=scores) if isinstance(scores, str) else shift_and_anomaly_tests(*scores, seed, groups)


def comparable_scores(
    evidence: Iterable[Sequence[Evidence]], groups: Sequence[int] | None = None
) -> tuple[Tensor, Tensor] | str:
    """The validation (h,c) and test scores (k,c) of all candidates; or why there are none.

    Left out are those with scores that are not finite and those that score all images of both sets alike: conditions in
    which validation and test images may be exchanged.
    """
    of_validation, of_test = [], []
    for draws in evidence:
        v, t = draws[0].validation_scores, draws[0].test_scores
        if t is None:
            return "no test images were given"
        assert v is not None
        together = torch.cat([v, t])
        if together.isfinite().all() and not _is_constant(together):
            of_validation.append(v.double().cpu())
            of_test.append(t.double().cpu())
    if not of_test:
        return "no candidate scores one image higher than another"
    if len(of_validation[0]) < MIN_VALIDATION_FOR_SHIFT:
        return f"{len(of_validation[0])} validation images are fewer than {MIN_VALIDATION_FOR_SHIFT}"
    if groups is not None and (n := len(set(groups))) < FEWEST_GROUPS:
        return f"{n} groups of validation images are fewer than {FEWEST_GROUPS}, with which chance could be excluded"
    return torch.stack(of_validation, 1), torch.stack(of_test, 1)


def proxy_auroc(evidence: Evidence) -> float | None:
    """How well a candidate's own pseudo anomalies are distinguished from held-out normal images; None without any."""
    if evidence.validation_scores is None or evidence.augmented_scores is None:
        return None
    return probability_above(evidence.validation_scores, evidence.augmented_scores).item()


def missing_fields(available: Collection[frozenset[str]], criterion: Criterion | Comparison) -> list[str]:
    """What of a criterion's needs the candidates lack, empty where one of them has all.

    Args:
        available: by candidate, the fields of its evidence.
        criterion: the criterion.
    """
    missing = [[name for name in criterion.needs if name not in fields] for fields in available]
    return min(missing, key=len, default=list(criterion.needs))


def _is_constant(scores: Tensor | None) -> bool:
    """Whether scores distinguish no image from another."""
    return scores is not None and len(scores) > 1 and bool(scores.min() == scores.max())
