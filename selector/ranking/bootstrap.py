"""How certain the first place is: the ranking of bootstrap resamples of what was drawn at random."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from augmentations.randomness import generator
from selector import criteria
from selector.criteria import custom
from selector.evidence.evidence import EMBEDDINGS, SCORES, Evidence
from selector.execution.threads import in_threads
from selector.ranking.rules import Rule, best_first, deciding_values

RESAMPLES = 50  # of the augmented draws and the unlabeled and validation images, for the verdict's error bar
TIED_SHARE = 0.05  # of the resamples: a candidate at least as good as the first in this share is tied with it
SCORES_AT_ONCE = 2**20  # of all resamples of a candidate: some 8 MB per temporary


@dataclass(frozen=True)
class Uncertainty:
    """How certain the first place is.

    Args:
        margin: deciding value of the first minus that of the second (better = positive; nan with one candidate).
        margin_spread: its standard deviation over the resamples.
        share_first: the share of the resamples in which the first comes first.
        tied: who can't be distinguished from the first, itself included.
    """

    margin: float = math.nan
    margin_spread: float = math.nan
    share_first: float = math.nan
    tied: frozenset[str] = frozenset()


def uncertainty(
    order: Sequence[str],
    members: Mapping[str, Sequence[str]],
    deciding: pd.Series,
    evidence: Mapping[str, Sequence[Evidence]],
    rule: Rule,
    seed: int,
    kinds: Mapping[str, str] | None = None,
    groups: Sequence[int] | None = None,
) -> Uncertainty:
    """How certain the first of the trusted candidates is.

    A resample takes the next augmented draw and a bootstrap of the test images, of the validation images (and what was
    made of these; whole groups, where they have some) and of the seeds, the same for all candidates, so that what they
    share cancels in the difference.
    Evidence is read one candidate at a time, so that memory does not grow with them.

    Args:
        order: the ids of the trusted candidates, best first.
        members: by each of them, those that differ from it in their seed alone.
        deciding: the deciding values.
        evidence: by candidate, its draws.
        rule: what decides.
        seed: of the resamples.
        kinds: by candidate, its kind, where comparisons decide.
        groups: of the validation images, where they have some.
    """
    if len(order) < 2:
        return Uncertainty(tied=frozenset(order))
    sign = 1 if rule.higher_is_better else -1
    seeds = max(len(members[i]) for i in order)
    of_seeds = generator(seed, "resamples", "seeds")
    picked = torch.stack([torch.randint(seeds, (seeds,), generator=of_seeds) for _ in range(RESAMPLES)]).numpy()
    drawn = _bootstraps(evidence[order[0]][0], generator(seed, "resamples"), groups)
    resample_of = partial(_resampled, picked=picked, evidence=evidence, drawn=drawn, rule=rule)
    resampled = np.stack(in_threads(lambda i: resample_of(members[i]), order, rule.max_threads))
    beside = _compared([members[i] for i in order], evidence, drawn, rule, kinds or {})
    resampled = np.concatenate([beside, resampled], axis=2)
    margins, firsts, as_good = [], 0, pd.Series(0, index=order)
    for resample in range(RESAMPLES):
        table = pd.DataFrame(resampled[:, resample], order, list(rule.names))
        signed = sign * deciding_values(table, table, rule)
        margins.append(signed[order[0]] - signed[order[1]])
        firsts += best_first(table, table, rule)[0] == order[0]
        as_good += signed >= signed[order[0]]
    margin = sign * (deciding[order[0]] - deciding[order[1]])
    tied = as_good.index[(as_good >= TIED_SHARE * RESAMPLES) | (as_good.index == order[0])]
    return Uncertainty(float(margin), float(np.nanstd(margins)), firsts / RESAMPLES, frozenset(tied))


def _bootstraps(
    evidence: Evidence, source: torch.Generator, groups: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Which test images (resamples, k), where there are any, and which validation images (resamples, h) they take.

    Test images are drawn by their place in the order of one candidate's scores, and not by that in which they were
    read: names of files set the latter, and must not matter. Of validation images in groups, groups are drawn, whole
    (Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 3.8), and of their images so many at
    random that there are h, each as often as any other or once more.
    """
    assert evidence.validation_scores is not None
    places = torch.empty(0, dtype=torch.long) if evidence.test_scores is None else evidence.test_scores.argsort()
    k, h = len(places), len(evidence.validation_scores)
    of_group = [] if groups is None else [(torch.tensor(groups) == g).nonzero()[:, 0] for g in sorted(set(groups))]

    def validation_rows() -> Tensor:
        if not of_group:
            return torch.randint(h, (h,), generator=source)
        picked = torch.randint(len(of_group), (len(of_group),), generator=source).tolist()
        rows = torch.cat([of_group[g] for g in picked])
        return rows[torch.randperm(len(rows), generator=source)].repeat(-(-h // len(rows)))[:h]

    drawn = [(places[torch.randint(max(k, 1), (k,), generator=source)], validation_rows()) for _ in range(RESAMPLES)]
    test, validation = zip(*drawn, strict=True)
    return torch.stack(test), torch.stack(validation)


def _resampled(
    seeds: Sequence[str],
    picked: np.ndarray,
    evidence: Mapping[str, Sequence[Evidence]],
    drawn: tuple[Tensor, Tensor],
    rule: Rule,
) -> np.ndarray:
    """The rule's criteria of one configuration in each resample, (resamples, criteria): means over the seeds picked."""
    total = np.zeros((RESAMPLES, len(rule.criteria)))
    for place, candidate_id in enumerate(seeds):
        share = (picked % len(seeds) == place).mean(axis=1)
        taken = np.flatnonzero(share)
        if not len(taken):  # a seed that no resample picked
            continue
        total[taken] += share[taken, None] * _each_resample(evidence[candidate_id], taken, drawn, rule)
    return total


def _compared(
    configurations: Sequence[Sequence[str]],
    evidence: Mapping[str, Sequence[Evidence]],
    drawn: tuple[Tensor, Tensor],
    rule: Rule,
    kinds: Mapping[str, str],
) -> np.ndarray:
    """The rule's comparisons of configurations in each resample, (configurations, resamples, comparisons).

    Of a configuration with several seeds, of the first: comparisons are of candidates.
    """
    compared = np.zeros((len(configurations), RESAMPLES, len(rule.comparisons)))
    if not rule.comparisons:
        return compared
    fields = frozenset(name for comparison in rule.comparisons for name in comparison.needs)
    first = [ids[0] for ids in configurations]
    others: dict[str, Any] = dict.fromkeys({*EMBEDDINGS, *SCORES} - fields)
    scores = [replace(evidence[i][0], **others) for i in first]  # what is not read would fill the memory
    for resample, (test, validation) in enumerate(zip(*drawn, strict=True)):
        seen = [draw.subset(**rows_of(draw, test, validation, fields)) for draw in scores]
        for place, comparison in enumerate(rule.comparisons):
            readings = [comparison.read(draw) for draw in seen]
            compared[:, resample, place] = comparison(readings, [kinds[i] for i in first])
    return compared


def _each_resample(
    draws: Sequence[Evidence], taken: np.ndarray, drawn: tuple[Tensor, Tensor], rule: Rule
) -> np.ndarray:
    """The rule's criteria of one candidate in the resamples that are taken, (taken, criteria)."""
    if not rule.criteria:
        return np.zeros((len(taken), 0))
    tests, validations = (rows[taken] for rows in drawn)
    fields = rule.required_fields

    def resampled(draw: Evidence, test: Tensor, validation: Tensor) -> Evidence:
        return draw.subset(**rows_of(draw, test, validation, fields))

    if not fields <= frozenset(SCORES):
        return np.array(
            [
                _values(resampled(draws[resample % len(draws)], test, validation), rule)
                for resample, test, validation in zip(taken.tolist(), tests, validations, strict=True)
            ]
        )

    # Scores are few, so that calling functions costs more than what they do: all resamples at once.
    def of_scores(test: Tensor, validation: Tensor) -> Tensor:
        resample = resampled(draws[0], test, validation)
        return torch.stack([criterion(resample) for criterion in rule.criteria])

    at_once = max(1, SCORES_AT_ONCE // (tests.shape[1] + validations.shape[1]))
    with torch.no_grad():
        return torch.vmap(of_scores, chunk_size=at_once)(tests, validations).numpy()


def _values(evidence: Evidence, rule: Rule) -> list[float]:
    """The values of the rule's criteria for one candidate; nan where a user's has none."""
    of_user = {}
    for criterion in rule.custom:
        try:
            of_user[criterion] = custom.evaluate(criterion, evidence)
        except custom.CustomCriterionError:
            of_user[criterion] = math.nan
    built_in = criteria.evaluate(evidence, [criterion for criterion in rule.criteria if criterion not in of_user])
    return [of_user[c] if c in of_user else built_in[c.name] for c in rule.criteria]


def rows_of(
    evidence: Evidence, test: Tensor, validation: Tensor, fields: Collection[str] = EMBEDDINGS + SCORES
) -> dict[str, Tensor]:
    """The rows that belong to these test and validation images, by those of the ``fields`` that are available.

    Pseudo anomalies come in blocks of one for each validation image, which go with it.
    """
    assert evidence.validation_scores is not None
    n = len(evidence.validation_scores)
    rows = dict.fromkeys(("test", "test_scores"), test) | dict.fromkeys(("validation", "validation_scores"), validation)
    for name in ("augmented_scores", "pseudo_scores"):
        if evidence.has((name,)) and len(getattr(evidence, name)) % n == 0:
            starts = torch.arange(0, len(getattr(evidence, name)), n)
            rows[name] = (starts[:, None] + validation).flatten()
    return {name: index for name, index in rows.items() if name in fields and evidence.has((name,))}
