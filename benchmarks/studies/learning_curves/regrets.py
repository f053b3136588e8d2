"""The regret of a choice at every setting of every factor, from the scores of stored zoos. Trains nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.evaluation.ensembles import Ensembles
from benchmarks.evaluation.statistics import bootstrap
from benchmarks.evaluation.stored_zoo import StoredZoo, aurocs
from benchmarks.studies.learning_curves.factors import FACTORS, Factor
from benchmarks.suites.files import OF_SCORES
from benchmarks.tasks.task import SHIFTED
from benchmarks.tasks.view import View
from selector import criteria
from selector.criteria import probability_above
from selector.evidence.evidence import Evidence
from selector.ranking.bootstrap import rows_of
from selector.ranking.evaluation import COLLAPSE_AUROC, MIN_VALIDATION_FOR_SHIFT
from selector.ranking.rules import DEFAULT_MEMBERS, Rule, best_first, resolve_decision
from selector.ranking.shift import shift_test

DRAWS = 20  # selections of every task and seed at a setting
SINGLE = ("pu_auc", "rtm", "pseudo_auc")  # criteria that choose alone, beside the default
OF_TRIALS = ("dsv",)  # a criterion of embeddings: known at the ratios of the leaderboard, and at no other setting
COLUMNS = ["curve", "at", "chosen_by", "regret", "low", "high", "gain", "gain_low", "gain_high", "tasks"]
Function = Callable[[Evidence], Tensor]


def rules(n_validation: int, is_shifted: bool) -> dict[str, Rule]:
    """The rules whose choices are compared, by name.

    Raises InputError where the default needs embeddings.
    """
    compared = {"default": resolve_decision("auto", n_validation).given(is_shifted)}
    compared |= {name: Rule.of(name) for name in SINGLE}
    unknown = {name for deciding in compared.values() for name in deciding.names} - set(OF_SCORES)
    if unknown:
        raise InputError(f"criterion {min(unknown)!r}", "needs embeddings, which no run stores", "choose one of scores")
    return compared


def batched(
    evidence: Sequence[Evidence], validation: Tensor, test: Tensor, functions: Mapping[str, Function]
) -> dict[str, np.ndarray]:
    """Functions of the evidence of m candidates in d selections, by name, each (d,m).

    validation (d,n) and test (d,k): the places of the images that each selection sees; pseudo anomalies go with the
    validation image that they were made from.
    """
    results = {name: np.empty((len(test), len(evidence))) for name in functions}
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, item in enumerate(evidence):
        shape = (item.score_is_distance, *((name, len(scores)) for name, scores in item.items()))
        alike.setdefault(shape, []).append(place)
    for (is_distance, *sizes), places in alike.items():
        drawn = [rows_of(evidence[places[0]], *images) for images in zip(test, validation, strict=True)]
        fields = {}
        for name, size in sizes:
            scores = torch.stack([getattr(evidence[place], name) for place in places])
            fields[name] = scores[:, torch.stack([rows.get(name, torch.arange(size)) for rows in drawn])]

        def values(scores: dict[str, Any], is_distance: bool = is_distance) -> dict[str, Tensor]:
            drawn_evidence = Evidence(**scores, score_is_distance=is_distance)
            return {name: function(drawn_evidence) for name, function in functions.items()}

        for name, value in torch.vmap(torch.vmap(values))(fields).items():
            results[name][:, places] = value.T.numpy()
    return results


def measure_regrets(zoo: StoredZoo) -> pd.DataFrame:
    """task, group, seed, curve, at, reached, shift, chosen_by, regret: one row per choice, the mean over its draws.

    reached: whether there were as many images as the setting requires. shift: the AUROC of normal test images against
    validation images, the mean over candidates.
    """
    evidence = [zoo.evidence(name) for name in zoo.trained]
    tables = []
    for view in zoo.views:
        auroc = aurocs(zoo, view, zoo.trusted()).set_index("candidate").auroc[zoo.trained].to_numpy()
        of_ensemble = cache(partial(_of_ensemble, zoo.ensembles(view, zoo.trained), zoo.trained))
        known: dict[bytes, pd.Series] = {}
        for factor in FACTORS.values():
            for at in factor.settings:
                images = _draws(zoo, view, factor, at)
                reached = factor.counted is None or images[factor.counted].shape[1] == at
                same = b"".join(drawn.numpy().tobytes() for drawn in images)  # where a setting exceeds what there is
                if same not in known:
                    known[same] = pd.DataFrame(_choices(evidence, view, *images, auroc, of_ensemble)).mean()
                of_choices, shift = known[same].drop("shift"), known[same]["shift"]
                table = pd.DataFrame({"chosen_by": of_choices.index, "regret": auroc.max() - of_choices.to_numpy()})
                case = {"task": view.task, "group": view.group, "curve": factor.name, "at": at}
                tables.append(table.assign(**case, reached=reached, shift=shift))
    return pd.concat(tables, ignore_index=True).assign(seed=zoo.seed)


def _of_ensemble(ensembles: Ensembles, names: Sequence[str], members: frozenset[int]) -> float:
    return ensembles.normalized(names[place] for place in sorted(members))


def _draws(zoo: StoredZoo, view: View, factor: Factor, at: float) -> tuple[Tensor, Tensor]:
    """The validation (d,n) and test images (d,k) of every draw, in order, so that equal ones are known for it."""
    drawn = [factor.draw(zoo, view, at, generator(zoo.seed, "curves", view.task, number)) for number in range(DRAWS)]
    validation, test = (torch.stack(images).sort(1).values for images in zip(*drawn, strict=True))
    return validation, test


def _choices(
    evidence: Sequence[Evidence],
    view: View,
    validation: Tensor,
    test: Tensor,
    auroc: np.ndarray,
    of_ensemble: Callable[[frozenset[int]], float],
) -> Iterator[dict[str, float]]:
    """The AUROC of the choice of each rule in each selection, and the shift in it."""
    choosing = [rules(validation.shape[1], is_shifted) for is_shifted in (False, True)]
    names = dict.fromkeys(name for compared in choosing for rule in compared.values() for name in rule.names)
    functions: dict[str, Function] = {name: criteria.get(name) for name in names}
    values = batched(evidence, validation, test, functions | {"proxy": _proxy_auroc})
    normal = torch.isin(test, view.rows[view.labels == 0])
    of_normal = test[normal].reshape(len(test), -1)
    shift = batched(evidence, validation, of_normal, {"shift": criteria.get("pu_auc")})["shift"]
    validation_scores, test_scores = (
        torch.stack([getattr(item, name) for item in evidence], 1) for name in ("validation_scores", "test_scores")
    )
    for draw in range(len(test)):
        trusted = values["proxy"][draw] >= COLLAPSE_AUROC
        usable = np.flatnonzero(trusted if trusted.any() else ~trusted)
        table = pd.DataFrame({name: values[name][draw, usable] for name in names}, index=usable)
        comparison = shift_test(validation_scores[validation[draw]], test_scores[test[draw]])
        deciding = choosing[comparison.is_shifted and validation.shape[1] >= MIN_VALIDATION_FOR_SHIFT]
        orders = {rule: [int(place) for place in best_first(table, table, rule)] for rule in set(deciding.values())}
        chosen = {name: auroc[orders[rule][0]] for name, rule in deciding.items()}
        members = frozenset(orders[deciding["default"]][:DEFAULT_MEMBERS])
        yield chosen | {
            "ensemble": of_ensemble(members),
            "random": auroc[usable].mean(),
            "shift": shift[draw, usable].mean(),
        }


def _proxy_auroc(evidence: Evidence) -> Tensor:
    assert evidence.validation_scores is not None
    assert evidence.augmented_scores is not None
    return probability_above(evidence.validation_scores, evidence.augmented_scores)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``measure_regrets`` of many zoos as curves: mean regrets, gains on a random pick, and 95% intervals.

    Intervals are bootstraps of whole data sets, and nan for fewer than two. The curve ``shift`` is of the tasks without
    a shift of their own; those with one are the curve ``shifted``. Both lie at the shift that was measured.
    """
    has_own_shift = rows.task.str.contains(SHIFTED) & (rows.curve == "shift")
    rows = rows[~has_own_shift | (rows["at"] == 0)].assign(curve=rows.curve.mask(has_own_shift, "shifted"))
    cases = ["task", "seed", "curve", "at"]
    random = rows[rows.chosen_by == "random"].set_index(cases).regret
    rows = rows.assign(gain=rows.set_index(cases).index.map(random) - rows.regret)
    table = []
    for (curve, at, chosen_by), part in rows.groupby(["curve", "at", "chosen_by"], sort=False):
        row = {
            "curve": curve,
            "at": part["shift"].mean() if curve in ("shift", "shifted") else at,
            "chosen_by": chosen_by,
        }
        for name, ends in (("regret", ("low", "high")), ("gain", ("gain_low", "gain_high"))):
            row[name] = part[name].mean()
            interval = bootstrap(part[name], part.group) if part.group.nunique() > 1 else (np.nan, np.nan)
            row |= dict(zip(ends, interval, strict=True))
        table.append(row | {"tasks": part[part.reached].task.nunique()})
    return pd.DataFrame(table, columns=COLUMNS)
