"""Whether selection criteria differ across tasks by more than chance.

A table has one row per case (a task, seed and anomaly ratio) and one column per method. The rank tests take cases as
independent: average the rows of tasks that share a train set first, or give ``bootstrap`` such tasks as one group.
Source: Demsar J., "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, inf, sqrt

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import f, friedmanchisquare, rankdata, studentized_range, wilcoxon

from augmentations import InputError
from augmentations.errors import unknown_name

DRAWN_AT_ONCE = 2**20  # values of resamples that lie in memory together
ROUNDING = 1e-12  # relative error up to which a difference counts as 0
DIGITS = 12  # to which differences are compared, relative to the largest value
ENUMERATED = 13  # cases up to which all signs of their differences are, as by scipy.stats.wilcoxon where there are ties


@dataclass(frozen=True)
class Friedman:
    """Whether the methods' average ranks differ at all.

    Friedman's chi-square, then Iman and Davenport's F, which is less conservative, and their p-values.
    """

    statistic: float
    p_value: float
    statistic_f: float
    p_value_f: float


def bootstrap(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    statistic: Callable[..., np.ndarray] = np.mean,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile bootstrap interval of a statistic.

    Args:
        values: (n,).
        groups: labels (n,); whole groups are drawn, as values of one group are not independent.
        statistic: takes values (m,n) and ``axis=1`` to (m,), as ``np.mean`` and ``np.median`` do.
        confidence: of the interval, in (0,1).
        resamples: how many are drawn.
        seed: of the resamples.

    Returns:
        The ends (low, high).

    Raises:
        InputError: for values that are not finite or not (n,), labels that are missing or not (n,), fewer than two
            groups (or values, without groups), a confidence outside (0,1), or no resamples.

    Source: Davison and Hinkley, "Bootstrap Methods and their Application", 1997, sections 3.8 and 5.3.1.
    """
    numbers = np.asarray(values, float)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise InputError("values", "must be (n,) and finite", "give one number per case, and leave out cases without")
    if groups is not None and np.shape(groups) != numbers.shape:
        raise InputError(
            "groups", f"have the shape {np.shape(groups)}, but values {numbers.shape}", "give one label per value"
        )
    labels = pd.Series(np.arange(len(numbers)) if groups is None else groups)
    if labels.isna().any():
        raise InputError("groups", "must not be missing", "give one label per value")
    if labels.nunique() < 2:
        raise InputError("groups" if groups is not None else "values", "must be at least 2", "add independent cases")
    _check_rate("confidence", confidence)
    if resamples < 1:
        raise InputError(f"resamples={resamples}", "must be at least 1", "try 10000")
    codes, _ = pd.factorize(labels)
    numbers, sizes = numbers[codes.argsort(kind="stable")], np.bincount(codes)
    source = np.random.default_rng(seed)
    blocks = np.array_split(np.arange(resamples), ceil(resamples * len(numbers) / DRAWN_AT_ONCE))
    draws = (source.integers(len(sizes), size=(len(block), len(sizes))) for block in blocks)
    estimates = np.concatenate([_estimates(numbers, sizes, draw, statistic) for draw in draws])
    low, high = np.quantile(estimates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _estimates(
    values: np.ndarray, sizes: np.ndarray, draws: np.ndarray, statistic: Callable[..., np.ndarray]
) -> np.ndarray:
    """The statistic (m,) of the groups drawn (m,g), of ``sizes`` (g,), whose values (n,) lie side by side."""
    starts = sizes.cumsum() - sizes
    lengths = sizes[draws].sum(axis=1)
    estimates = np.empty(len(draws))
    for length in np.unique(lengths):  # resamples of one length make a matrix; without groups, all do
        drawn = draws[lengths == length].ravel()
        counts = sizes[drawn]
        rows = np.arange(counts.sum()) + np.repeat(starts[drawn] + counts - counts.cumsum(), counts)
        estimates[lengths == length] = statistic(values[rows].reshape(-1, length), axis=1)
    return estimates


def average_ranks(table: pd.DataFrame, higher_is_better: bool) -> pd.Series:
    """The mean over cases of every method's rank, 1 = best, ties sharing the mean of their ranks.

    table (n,k). Raises InputError for fewer than two methods, no case, two methods of one name, or values that are
    not finite numbers.
    Source: Demsar 2006, section 3.2.2.
    """
    values = _values(table)
    ranks = rankdata(-values if higher_is_better else values, axis=1)
    return pd.Series(ranks.mean(axis=0), index=table.columns, name="average rank")


def friedman(table: pd.DataFrame) -> Friedman:
    """The Friedman test, corrected for ties, and its F version; the same whichever values are better.

    table (n,k). If all cases rank the methods alike, F is infinite; if all methods tie in every case, both statistics
    are 0. Raises InputError as ``average_ranks`` does, for a single case, and for fewer than three methods.
    Source: Demsar 2006, section 3.2.2; Iman and Davenport, Communications in Statistics A 9, 1980; the correction for
    ties: Conover, "Practical Nonparametric Statistics", 1999, section 5.8.
    """
    values = _values(table)
    cases, methods = values.shape
    if methods < 3:
        raise InputError("table", f"has {methods} methods, but at least 3 are needed", "compare two by wilcoxon_holm")
    if cases < 2:
        raise InputError("table", "must hold at least 2 cases", "one case cannot tell a difference from chance")
    if (values == values[:, :1]).all():
        return Friedman(0.0, 1.0, 0.0, 1.0)
    chi, p_value = friedmanchisquare(*values.T)
    freedom = methods - 1
    # Where all cases rank the methods alike, the denominator is 0 but for rounding.
    remainder = cases * freedom - chi
    ratio = (cases - 1) * chi / remainder if remainder > ROUNDING * cases * freedom else inf
    return Friedman(float(chi), float(p_value), float(ratio), float(f.sf(ratio, freedom, freedom * (cases - 1))))


def critical_difference(methods: int, cases: int, alpha: float = 0.05) -> float:
    """By how much the average ranks of two methods must differ to be significant (Nemenyi).

    Raises InputError for fewer than two methods, no case, or an alpha outside (0,1).
    Source: Demsar 2006, section 3.2.2 and table 5.
    """
    for name, count, least in (("methods", methods, 2), ("cases", cases, 1)):
        if count < least:
            raise InputError(f"{name}={count}", f"must be at least {least}", "count the columns and rows of a table")
    _check_rate("alpha", alpha)
    return float(studentized_range.isf(alpha, methods, inf) / sqrt(2)) * _rank_error(methods, cases)


def cliques(ranks: pd.Series, cd: float) -> list[tuple[str, ...]]:
    """The largest groups of methods whose average ranks all differ by less than ``cd``: the bars of a CD diagram.

    ranks (k,), indexed by method. Groups and their members come in the order of rank; methods alone are left out.
    Raises InputError for ranks that are not finite, or a cd that is not a number of at least 0.
    Source: Demsar 2006, section 3.2.4.
    """
    if not np.isfinite(ranks).all():
        raise InputError("ranks", "must be finite", "take them from average_ranks")
    if not cd >= 0:
        raise InputError(f"cd={cd}", "must be at least 0", "take it from critical_difference")
    ranks = ranks.sort_values(kind="stable")
    groups: list[tuple[str, ...]] = []
    reached = 0
    for start, rank in enumerate(ranks):
        end = int((ranks - rank < cd).sum())
        if end > max(reached, start + 1):
            groups.append(tuple(ranks.index[start:end]))
            reached = end
    return groups


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's step-down adjusted p-values (m,): at most alpha just where the test rejects, all errors together kept
    below alpha.

    p_values (m,), in any order. Raises InputError unless they lie in [0,1].
    Source: Holm S., Scandinavian Journal of Statistics 6, 1979; Demsar 2006, section 3.2.2.
    """
    p_values = np.asarray(p_values, float)
    if p_values.ndim != 1 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise InputError("p_values", "must be (m,) and in [0, 1]", "leave out comparisons that have none")
    from statsmodels.stats.multitest import multipletests  # takes a second, which every call of `ssad` would wait for

    return multipletests(p_values, method="holm")[1] if len(p_values) else p_values


def wilcoxon_holm(table: pd.DataFrame, control: str | None = None) -> pd.DataFrame:
    """Two-sided Wilcoxon signed-rank tests of all pairs of methods, or of every method against the ``control``.

    Cases without a difference take the lowest ranks, which are then dropped (Pratt); where no case has one, p is 1.
    Differences that are the same but for rounding tie. p is that of ``scipy.stats.wilcoxon``: exact for up to 13 cases,
    and up to 50 of different differences, none 0; else of the normal approximation.

    Args:
        table: (n,k).
        control: the method that all others are compared with; None: all pairs.

    Returns:
        One row per pair: ``first``, ``second`` (the control, if there is one), ``cases``, ``median_difference`` (first
        minus second), ``p_value`` and, adjusted for all rows, ``p_holm``.

    Raises:
        InputError: as ``average_ranks`` does, and for an unknown control.

    Source: Demsar 2006, sections 3.1.3 and 3.2.2; Pratt, Journal of the American Statistical Association 54, 1959.
    """
    values = dict(zip(table.columns, _values(table).T, strict=True))
    if control is not None and control not in values:
        raise unknown_name("control", control, list(map(str, values)))
    pairs: Sequence[tuple[str, str]] = (
        list(combinations(values, 2)) if control is None else [(name, control) for name in values if name != control]
    )
    p_values = [_signed_rank_p(values[first], values[second]) for first, second in pairs]
    return pd.DataFrame(
        {
            "first": [first for first, _ in pairs],
            "second": [second for _, second in pairs],
            "cases": len(table),
            "median_difference": [float(np.median(values[first] - values[second])) for first, second in pairs],
            "p_value": p_values,
            "p_holm": holm(p_values),
        }
    )


def _signed_rank_p(first: np.ndarray, second: np.ndarray) -> float:
    # .9 - .8 and .8 - .7 are one difference, but not in floating point, where either may come out the larger.
    scale = np.abs([first, second]).max() or 1.0
    differences = np.round((first - second) / scale, DIGITS)
    if not differences.any():
        return 1.0
    if len(differences) > ENUMERATED:
        return float(wilcoxon(differences, zero_method="pratt").pvalue)
    # scipy gives the same p-value, but takes seconds for it where there are ties.
    ranks = rankdata(np.abs(differences))
    sums = np.zeros(1)  # of the signed ranks, for all signs that the differences could have had
    for rank in ranks[differences != 0]:
        sums = np.concatenate([sums - rank, sums + rank])
    return float((np.abs(sums) >= abs(np.sign(differences) @ ranks)).mean())


def _rank_error(methods: int, cases: int) -> float:
    """The standard error of the difference of two average ranks, if the methods are alike."""
    return sqrt(methods * (methods + 1) / (6 * cases))


def _values(table: pd.DataFrame) -> np.ndarray:
    if table.shape[0] < 1 or table.shape[1] < 2:
        raise InputError(
            "table", f"has the shape {table.shape}, but must hold cases of at least 2 methods", "one column per method"
        )
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise InputError(f"column {twice!r}", "must be unique", "give every method a name of its own")
    for name, column in table.items():
        numbers = column.to_numpy(float, na_value=np.nan) if pd.api.types.is_numeric_dtype(column) else np.nan
        if not np.isfinite(numbers).all():
            raise InputError(f"column {name!r}", "must hold finite numbers", "leave out cases that a method failed on")
    return table.to_numpy(float)


def _check_rate(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InputError(f"{name}={value}", "must be between 0 and 1", "try 0.95 for confidence, 0.05 for alpha")
