"""What decides: one criterion by its value, or several by Borda; and the order that it puts candidates in."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from augmentations.errors import InputError
from selector import consensus, criteria
from selector.criteria import Criterion, custom
from selector.evidence.evidence import EMBEDDINGS, SCORES
from selector.execution.threads import MOST_THREADS
from selector.ranking.borda import borda
from selector.ranking.comparisons import COMPARISONS, Comparison

# A level and a shape of the test scores, and both criteria of pseudo anomalies: of such Bordas the one that lost least
# on the suite `development`.
AUTO = ("score_q95", "score_skewness", "pseudo_auc", "npd")
# Of what does not compare the level of test scores with that of validation scores, what lost least on `development`
# where a shift is found (benchmarks/studies/shifts.py).
UNDER_SHIFT = ("rtm", "npd", "score_skewness")
# Of the candidates of several kinds, what lost least on `development-auto`.
ACROSS_KINDS = ("family_adjusted_auc", "agreement_across_kinds")
# What they go by, in the words of a reason.
GOES_BY = {
    "score_q95": "the level of test scores above held-out normal ones",
    "score_skewness": "the skewness of test scores",
    "pseudo_auc": "pseudo anomalies",
    "npd": "pseudo anomalies",
    "family_adjusted_auc": "pseudo anomalies, each family by itself",
    "agreement_across_kinds": "agreement with other kinds of detectors",
}
BY_USER = "chosen by the user"
# By it every second member is chosen from several kinds: pseudo anomalies say who detects in general, and it says whose
# pseudo anomalies the test images resemble. On `development-auto` both together lose a good half of what either does.
COMPLEMENT = "dsv"
# Of an ensemble. Of one kind: with fewer it lost more on `development` where 5% of the images are anomalous. Of
# several: with more it lost more on `development-auto`.
DEFAULT_MEMBERS, DEFAULT_MEMBERS_ACROSS_KINDS = 8, 4
MIN_IMAGES_FOR_NPD = 20  # validation images; with fewer it is too noisy to decide with pseudo_auc alone
COLUMNS = (  # of a ranking, beside those of criteria: names that no criterion of a user's may have
    *("rank", "candidate", "augmentation", "hyperparameters", "detector", "scorer", "seed"),
    *("criterion", "status", "reason", "tied"),
)

CriterionChoice = str | Criterion | custom.Function | Sequence[str | Criterion]  # what a user may name


@dataclass(frozen=True)
class Rule:
    """What decides: one criterion by its value, or several by Borda (mean share of candidates beaten).

    criteria: of one candidate each. comparisons: of a candidate beside the others, which vote first. complement: has no
    part in the order, and chooses every second member of the recommended detector; it must have ``of_images``.
    """

    criteria: tuple[Criterion, ...]
    reason: str = ""
    comparisons: tuple[Comparison, ...] = ()
    complement: Criterion | None = None

    @classmethod
    def of(cls, *names: str, reason: str = "", complement: str | None = None) -> "Rule":
        """The rule of built-in criteria and comparisons of these names. Raises InputError for an unknown one."""
        compared = tuple(COMPARISONS[name] for name in names if name in COMPARISONS)
        of_one = tuple(criteria.get(name) for name in names if name not in COMPARISONS)
        return cls(of_one, reason, compared, criteria.get(complement) if complement else None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self.columns)

    @property
    def columns(self) -> tuple[Comparison | Criterion, ...]:
        """What decides, that which breaks ties first."""
        return (*self.comparisons, *self.criteria)

    @property
    def custom(self) -> tuple[Criterion, ...]:
        """Those of its criteria that a user wrote."""
        return tuple(criterion for criterion in self.criteria if not criteria.is_registered(criterion))

    @property
    def is_user_chosen(self) -> bool:
        """Whether the user named it, so that none may be left out."""
        return self.reason == BY_USER

    @property
    def is_borda(self) -> bool:
        """Whether several criteria decide together."""
        return len(self.columns) > 1

    @property
    def higher_is_better(self) -> bool:
        """The direction of the deciding value; that of a Borda share is up."""
        return self.is_borda or self.columns[0].higher_is_better

    def supported_by(self, available: Collection[frozenset[str]]) -> "Rule":
        """The rule of the criteria that every candidate supports, with a reason that is true of them; the same where
        the user chose it or none is.

        Args:
            available: by candidate, the fields of its evidence.
        """
        if self.is_user_chosen:
            return self
        shared = tuple(c for c in self.columns if all(set(c.needs) <= fields for fields in available))
        if not shared or len(shared) == len(self.columns):
            return self
        left_out = [column for column in self.columns if column not in shared]
        missing = {name for c in left_out for name in c.needs if not all(name in fields for fields in available)}
        reason = _auto_reason([c.name for c in shared]) if self.names in (AUTO, ACROSS_KINDS) else self.reason
        verb = "is" if len(left_out) == 1 else "are"
        reason += (
            f" ({_listed([c.name for c in left_out])} {verb} left out, for not every candidate has "
            f"{_listed(sorted(missing))})"
        )
        compared = tuple(column for column in shared if isinstance(column, Comparison))
        of_one = tuple(column for column in shared if isinstance(column, Criterion))
        return Rule(of_one, reason, compared, self.complement)

    @property
    def required_fields(self) -> frozenset[str]:
        """The fields of the evidence that it reads; all, where a user's criterion takes part, which need not say."""
        if self.custom:
            return frozenset(EMBEDDINGS + SCORES)
        return frozenset(name for column in self.columns for name in column.needs)

    @property
    def max_threads(self) -> int:
        """How many threads may evaluate it: a user's function need not be thread-safe."""
        return 1 if self.custom else MOST_THREADS

    def to_json(self) -> dict[str, Any]:
        """What is saved; of a user's criteria all but the functions."""
        return {
            "names": self.names,
            "reason": self.reason,
            "custom": [custom.to_json(c) for c in self.custom],
            "complement": self.complement.name if self.complement else None,
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Rule":
        """The rule as it was saved."""
        of_user = {entry["name"]: custom.from_json(entry) for entry in saved["custom"]}
        built_in = cls.of(*(name for name in saved["names"] if name not in of_user))
        chosen = iter(built_in.criteria)
        own = (of_user.get(name) or next(chosen) for name in saved["names"] if name not in COMPARISONS)
        complement = saved.get("complement")  # which runs of before it did not write
        return cls(tuple(own), saved["reason"], built_in.comparisons, criteria.get(complement) if complement else None)

    def describe(self) -> str:
        """Its name in a sentence."""
        return f"Borda over {_listed(self.names)}" if self.is_borda else self.names[0]


@dataclass(frozen=True)
class Decision:
    """The rule that decides, the one that does where test images are shifted against validation images, and that which
    does between candidates of several kinds, shifted or not."""

    normal: Rule
    under_shift: Rule
    across_kinds: Rule

    @classmethod
    def always(cls, rule: Rule) -> "Decision":
        """One rule whatever the candidates and the images are."""
        return cls(rule, rule, rule)

    def given(self, is_shifted: bool, n_kinds: int = 1) -> Rule:
        """The rule for test images that are shifted, or are not, and candidates of so many kinds."""
        if n_kinds > 1:
            return self.across_kinds
        return self.under_shift if is_shifted else self.normal

    @property
    def required_fields(self) -> frozenset[str]:
        """The fields of the evidence that at least one of the two rules reads."""
        return self.normal.required_fields | self.under_shift.required_fields | self.across_kinds.required_fields


def resolve_decision(criterion: CriterionChoice, n_validation: int, has_test: bool = True) -> Decision:
    """What decides, from what a user named.

    "auto" is Borda over what loses least on the development benchmark; where test images do not resemble validation
    images, over what does not compare the levels of their scores; and between candidates of several kinds, over what
    compares them on the same pseudo anomalies and the same images (``selector.ranking.comparisons``). Without test
    images it is Borda over pseudo_auc and npd, or pseudo_auc alone.

    Args:
        criterion: "auto", the name of a criterion, a Criterion, a function of the evidence, or several names or
            Criterion objects, whose Borda decides.
        n_validation: the number of validation images.
        has_test: whether there are test images.

    Raises:
        InputError: an unknown name, a user's criterion without a free name, several of which one comes twice or is a
            function, or one that needs test images where there are none.
    """
    if isinstance(criterion, Sequence) and not isinstance(criterion, str):
        return Decision.always(Rule(_several(criterion, has_test), BY_USER))
    if not (isinstance(criterion, str) and criterion == "auto"):
        return Decision.always(Rule((_usable(criterion, has_test),), BY_USER))
    if not has_test:
        rule = _inductive(n_validation)
        by_family = Rule.of(ACROSS_KINDS[0], reason=f"auto: no test images were given, so {GOES_BY[ACROSS_KINDS[0]]}")
        return Decision(rule, rule, by_family)
    return Decision(
        Rule.of(*AUTO, reason=_auto_reason(AUTO)),
        Rule.of(
            *UNDER_SHIFT,
            reason="auto: validation images do not resemble the normal test images, so only criteria decide that "
            "do not compare the levels of their scores",
        ),
        Rule.of(*ACROSS_KINDS, reason=_auto_reason(ACROSS_KINDS), complement=COMPLEMENT),
    )


def chosen_members(table: pd.DataFrame, count: int, complement: Criterion | None = None) -> tuple[str, ...]:
    """The ids of the candidates that form the recommended detector, ``count`` at most.

    They are the best trusted ones; with a complement, of every two the second is the best by it that is left, the first
    ones of the ranking leading. Where none can be trusted it is the first alone.

    Args:
        table: a ranking, best first, with candidate, status, and the column of the complement.
        count: how many.
        complement: the criterion of every second one, of those that have a value.
    """
    trusted = table[table.status == "ok"].set_index("candidate")
    ranked = list(trusted.index)
    if complement is None or complement.name not in trusted:
        return tuple(ranked[:count]) or (table.candidate.iloc[0],)
    leading = ranked[: (count + 1) // 2]
    by_it = trusted[complement.name].drop(leading).dropna()
    by_it = by_it.sort_values(ascending=not complement.higher_is_better, kind="stable")
    chosen = dict.fromkeys([*leading, *by_it.index[: count // 2], *ranked])
    return tuple(chosen)[:count] or (table.candidate.iloc[0],)


def default_members(n_kinds: int) -> int:
    """How many of the best candidates form the recommended detector, of a zoo of so many kinds."""
    return DEFAULT_MEMBERS_ACROSS_KINDS if n_kinds > 1 else DEFAULT_MEMBERS


def _auto_reason(names: Sequence[str]) -> str:
    return f"auto: {_listed(list(dict.fromkeys(GOES_BY.get(name, name) for name in names)))}"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _several(choice: Sequence[str | Criterion], has_test: bool) -> tuple[Criterion, ...]:
    named = [entry.name if isinstance(entry, Criterion) else entry for entry in choice]
    if not named or not all(isinstance(name, str) for name in named) or len(set(named)) < len(named):
        remedy = 'try ("dsv", "rtm") with names of selector.criteria.names(), or a function alone'
        raise InputError(f"criterion={choice!r}", "must be names of criteria or Criterion objects, each once", remedy)
    return tuple(_usable(entry, has_test) for entry in choice)


def _usable(choice: str | Criterion | custom.Function, has_test: bool) -> Criterion:
    criterion = _criterion(choice)
    if criterion.needs_test and not has_test:
        raise InputError(
            f"criterion {criterion.name!r}",
            "needs test images, and none were given",
            f'give test images, or choose one of {", ".join(criteria.inductive())}, or "auto"',
        )
    return criterion


def _criterion(choice: str | Criterion | custom.Function) -> Criterion:
    if isinstance(choice, Criterion) and criteria.is_registered(choice):
        return choice
    if not isinstance(choice, str):
        return custom.as_criterion(choice, (*criteria.names(), *consensus.names(), *COLUMNS))
    try:
        return criteria.get(choice)
    except InputError as error:
        raise InputError(f"criterion {choice!r}", error.rule, f'{error.remedy} Or "auto"') from error


def _inductive(n_validation: int) -> Rule:
    if n_validation < MIN_IMAGES_FOR_NPD:
        few = f"{n_validation} validation images are fewer than {MIN_IMAGES_FOR_NPD}, too few for npd"
        return Rule.of("pseudo_auc", reason=f"auto: no test images were given; {few}")
    reason = "auto: no test images were given, so pseudo anomalies of other kinds decide"
    return Rule.of("pseudo_auc", "npd", reason=reason)


def deciding_values(values: pd.DataFrame, reference: pd.DataFrame, rule: Rule) -> pd.Series:
    """The deciding value of each row of criterion values.

    Args:
        values: one row per candidate, with a column for each of the rule's criteria.
        reference: the rows that a Borda compares with.
        rule: what decides.

    Returns:
        The criterion's value, or the Borda share.
    """
    if not rule.is_borda:
        return values[rule.names[0]]
    directions = {column.name: column.higher_is_better for column in rule.columns}
    return borda(values, directions, reference, {comparison.name: comparison.votes for comparison in rule.comparisons})


def best_first(values: pd.DataFrame, reference: pd.DataFrame, rule: Rule) -> list[Any]:
    """The index of criterion values in the order of the rule.

    Ties of a Borda go to the better value of its first criterion, then to the earlier row; nan comes last.

    Args:
        values: one row per candidate, with a column for each of the rule's criteria.
        reference: the rows that a Borda compares with.
        rule: what decides.
    """
    first = rule.columns[0]
    sign = 1 if first.higher_is_better else -1
    deciding = deciding_values(values, reference, rule) * (1 if rule.is_borda else sign)
    # Of the keys the last comes first; nan is behind all numbers.
    order = np.lexsort([-sign * values[first.name].to_numpy(float), -deciding.to_numpy(float)])
    return list(values.index[order])
