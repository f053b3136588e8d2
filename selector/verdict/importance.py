"""Importance of hyperparameters: Optuna's, where there are candidates enough to distinguish effects from chance."""

import math
from collections.abc import Callable

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from scipy.stats import beta

from selector.search.optuna_logging import quiet_optuna

EVERY = "all"  # in the place of an augmentation: the candidates of every one
SIGNIFICANCE = 0.05  # an F-test's, below which what varies explains more than chance would
SETUP = ("detector", "scorer")


def importances(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """The share of each hyperparameter in the main effects on the deciding value.

    A range is two hyperparameters, its ends, unless they only vary together; a number is one, and so is a choice, whose
    values have no order. What is the same for all candidates has no share. Importances are fANOVA's (Hutter, Hoos,
    Leyton-Brown, ICML 2014). They always add up to 1, so they are given only where the same hyperparameters, numbers by
    slope and bend, explain more than chance does (F-test at 5%).

    Args:
        rows: those of a ranking whose deciding values compare.
    Returns:
        A table (augmentation, hyperparameter, importance), the most important first, whose importances add up to 1
        within each augmentation; and for each augmentation without importances the reason. "all" compares
        augmentations with each other; its "hyperparameters" are how each of them is set.
    """
    rows = rows.sort_values("candidate", ignore_index=True)  # a forest depends on the order of its rows
    scopes: list[tuple[str, pd.DataFrame, Callable[[pd.DataFrame], pd.DataFrame]]] = [
        (str(augmentation), part, hyperparameters) for augmentation, part in rows.groupby("augmentation")
    ]
    if len(scopes) > 1:
        scopes.insert(0, (EVERY, rows, across))
    pieces = [pd.DataFrame(columns=["augmentation", "hyperparameter", "importance"]).astype({"importance": float})]
    absent = {}
    for scope, part, columns in scopes:
        values = part.criterion.to_numpy(float)
        varying = columns(part)
        if reason := _why_absent(varying, values):
            absent[scope] = reason
            continue
        shares = sorted(_fanova(varying, values).items(), key=lambda share: (-share[1], share[0]))
        pieces.append(pd.DataFrame([(scope, *share) for share in shares], columns=pieces[0].columns))
    return pd.concat(pieces[1:] or pieces, ignore_index=True), absent


def hyperparameters(rows: pd.DataFrame) -> pd.DataFrame:
    """What varies between candidates of one augmentation, in one column each.

    Numbers and ends of ranges are places in their order (0, 1, ...), choices are strings. What only varies together
    shares a column.
    """
    alike: dict[tuple[float, ...], list[tuple[str, str]]] = {}
    columns = _columns(rows)
    for part, column in columns.items():
        if column.nunique() > 1:
            alike.setdefault(_pattern(column), []).append(part)
    varying = {_column_name(group, list(alike.values())): columns[group[0]] for group in alike.values()}
    # An augmentation's hyperparameter may be called "scorer" too.
    renamed = {name: f"{name} of the augmentation" for name in SETUP}
    return pd.DataFrame(varying, index=rows.index).rename(columns=renamed).join(_setup(rows))


def _columns(rows: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    """Every hyperparameter as (name, end), where an end is low or high of a range and empty for all else."""
    columns: dict[tuple[str, str], pd.Series] = {}
    for name, first in rows.hyperparameters.iloc[0].items() if len(rows) else ():
        values = [cell[name] for cell in rows.hyperparameters]
        if isinstance(first, (str, bool)):
            columns[name, ""] = pd.Series(map(str, values), rows.index)
        elif isinstance(first, tuple):
            for place, end in enumerate(("low", "high")):
                columns[name, end] = _places([value[place] for value in values], rows.index)
        else:
            columns[name, ""] = _places(values, rows.index)
    return columns


def _places(values: list[float], index: pd.Index) -> pd.Series:
    return pd.Series(values, index, dtype=float).rank(method="dense") - 1


def _pattern(column: pd.Series) -> tuple[float, ...]:
    """The same for columns that only vary together."""
    if not pd.api.types.is_numeric_dtype(column):
        return tuple(pd.factorize(column)[0].tolist())
    # An end that falls where another rises is as good as the same: (-45, 45) after (0, 0).
    return min(tuple(column), tuple(column.max() - column))


def across(rows: pd.DataFrame) -> pd.DataFrame:
    """What varies between candidates of several augmentations; how each is set is a place among its settings."""
    settings = pd.Series([tuple(sorted(h.items())) for h in rows.hyperparameters], rows.index)
    place = {
        (augmentation, setting): float(number)
        for augmentation, part in settings.groupby(rows.augmentation)
        for number, setting in enumerate(sorted(set(part)))
    }
    numbers = [place[key] for key in zip(rows.augmentation, settings, strict=True)]
    return rows[["augmentation"]].join(_setup(rows)).assign(hyperparameters=numbers)


def _setup(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[[name for name in SETUP if rows[name].nunique() > 1]]


def _column_name(group: list[tuple[str, str]], groups: list[list[tuple[str, str]]]) -> str:
    """``area`` where its ends, or all of them that vary, are in one group, else ``area low``."""
    split = {name for name, _ in group if sum(any(name == other for other, _ in ends) for ends in groups) > 1}
    return " and ".join(dict.fromkeys(f"{name} {end}" if name in split else name for name, end in group))


def _why_absent(varying: pd.DataFrame, values: np.ndarray) -> str:
    """Why importances would be no more than chance; empty where they are more."""
    if len(values) < 2:
        return "has one candidate that could be ranked"
    if varying.empty:
        return "nothing varies between its candidates"
    if varying.shape[1] == 1:
        return f"only {varying.columns[0]} varies, so there is nothing to compare it with"
    if values.min() == values.max():
        return "all candidates have the same deciding value"
    # Places among the settings of different augmentations are not numbers to fit: they are what is left over.
    chance = _chance(varying.drop(columns="hyperparameters", errors="ignore"), values)
    if math.isnan(chance):
        return f"{len(values)} candidates are too few to distinguish effects from chance"
    return f"explained no better than by chance (F-test, p = {chance:.2g})" if chance > SIGNIFICANCE else ""


def _chance(varying: pd.DataFrame, values: np.ndarray) -> float:
    """The p-value of an F-test of all columns together, numbers by slope and bend; nan where they fit any values."""
    slopes = pd.get_dummies(varying, dtype=float).to_numpy(float)
    design = np.column_stack([slopes, slopes**2])
    design -= design.mean(axis=0)
    centred = _centred(values)
    fit, _, effects, _ = np.linalg.lstsq(design, centred, rcond=None)
    left = len(values) - 1 - effects
    if left < 1:
        return math.nan
    explained = 1 - np.square(centred - design @ fit).sum() / np.square(centred).sum()
    return float(beta.sf(explained, effects / 2, left / 2))  # the F-test's, and finite where nothing is left over


def _centred(values: np.ndarray) -> np.ndarray:
    """Values of mean 0 within [-2, 2], so that squares of the largest and of the smallest are numbers."""
    scaled = values / np.abs(values).max()
    return scaled - scaled.mean()


def _fanova(varying: pd.DataFrame, values: np.ndarray) -> dict[str, float]:
    distributions = {str(name): _distribution(column) for name, column in varying.items()}
    with quiet_optuna():
        study = optuna.create_study()
    study.add_trials(
        [
            optuna.create_trial(params=settings, distributions=distributions, value=value)
            for settings, value in zip(varying.to_dict("records"), _centred(values).tolist(), strict=True)
        ]
    )
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


def _distribution(column: pd.Series) -> BaseDistribution:
    """The space that fANOVA averages over: every tried value has an equal part of it."""
    if pd.api.types.is_numeric_dtype(column):
        return FloatDistribution(-0.5, column.max() + 0.5)
    return CategoricalDistribution(sorted(set(column)))
