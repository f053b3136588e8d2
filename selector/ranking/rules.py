"""What decides: one criterion by its value, or several by Borda; and the order that it puts candidates in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from augmentations import InputError
from selector import consensus, criteria
from selector.criteria import Criterion
from selector.criteria import custom as own
from selector.evidence.evidence import EMBEDDINGS, SCORES
from selector.execution.execution import MOST_THREADS

# A level and a shape of the test scores, and both criteria of pseudo anomalies: of such Bordas the one that lost least
# on the suite `development`.
AUTO = ("score_upper_95", "score_skew3", "pseudo_auc", "npd")
# Of what holds no test score against the level of validation scores, what lost least on `development` where a shift is
# found (benchmarks/shifts.py).
UNDER_SHIFT = ("rtm", "npd", "score_skew3")
BY_USER = "chosen by the user"
DEFAULT_MEMBERS = 8  # of an ensemble: with fewer it lost more on `development` where 5% of the images are anomalous
FEWEST_FOR_NPD = 20  # validation images; with fewer it is too noisy to decide with pseudo_auc alone
COLUMNS = (  # of a ranking, beside those of criteria: names that no criterion of a user's may have
    *("rank", "candidate", "augmentation", "hyperparameters", "detector", "scorer", "seed"),
    *("criterion", "status", "reason", "tied"),
)


@dataclass(frozen=True)
class Rule:
    """What decides: one criterion by its value, or several by Borda (mean share of candidates beaten)."""

    names: tuple[str, ...]
    reason: str = ""
    own: Criterion | None = None  # the user's, which decides alone

    @property
    def asked(self) -> bool:
        """Whether the user named it, so that none may be left out."""
        return self.reason == BY_USER

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

    "auto" is Borda over what loses least on the development benchmark; where test images do not resemble validation
    images (``is_shifted``), over what does not hold their scores against those.
    Without test images "auto" is Borda over pseudo_auc and npd, or pseudo_auc alone. Raises InputError for an unknown
    name, a user's criterion without a free one, several of which one comes twice or is a function, or one that needs
    test images where there are none.
    """
    if isinstance(criterion, Sequence) and not isinstance(criterion, str):
        if not criterion or len(set(criterion)) < len(criterion) or not all(isinstance(c, str) for c in criterion):
            remedy = 'try ("dsv", "rtm") with names of selector.criteria.names(), or a function alone'
            raise InputError(f"criterion={criterion!r}", "must be names of criteria, each once", remedy)
        names = tuple(_usable(name, has_test).name for name in criterion)
        return Rule(names, BY_USER)
    if criterion != "auto":
        chosen = _usable(criterion, has_test)
        built_in = chosen is criteria.CRITERIA.get(chosen.name)
        return Rule((chosen.name,), BY_USER, None if built_in else chosen)
    if not has_test:
        return _inductive(n_validation)
    if is_shifted:
        return Rule(
            UNDER_SHIFT,
            "auto: validation images do not resemble the normal test images, so nothing decides that compares the "
            "levels of their scores",
        )
    return Rule(
        AUTO,
        "auto: how high test scores are against held-out normal ones, how skew they are, and pseudo anomalies",
    )


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
    if n_validation < FEWEST_FOR_NPD:
        few = f"{n_validation} validation images are fewer than {FEWEST_FOR_NPD}, too few for npd"
        return Rule(("pseudo_auc",), f"auto: no test images were given; {few}")
    return Rule(("pseudo_auc", "npd"), "auto: no test images were given, so pseudo anomalies of other kinds decide")


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
