"""How a shift between validation and normal test images affects a choice, and whether it is detected: Markdown tables.

ssad benchmark study shifts benchmarks/results/development

Trains nothing: the validation and normal test images of a stored zoo are divided again, with a probability that depends
on a score of the image and on a strength (0: at random, without a shift). That score is the mean rank over candidates
(test images "more anomalous" or "more normal" for all of them) or the rank by one candidate, which others share in
part. Anomalies are drawn at the suite's ratios. Pseudo anomalies stay those of the original validation images. Regret
is by the AUROC over all normal test images of that division and all anomalies.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console
from rich.progress import track
from scipy.stats import rankdata
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from benchmarks.evaluation.stored_zoo import StoredZoo
from benchmarks.leaderboard.markdown import print_table
from benchmarks.suites.definitions import RATIOS
from benchmarks.suites.files import stored_zoos
from benchmarks.tasks.view import View
from selector import criteria
from selector.criteria import probability_above
from selector.evidence.evidence import Evidence
from selector.ranking.rules import AUTO, UNDER_SHIFT, Rule, best_first
from selector.ranking.shift import LEVEL, savage_score_test, shift_and_anomaly_tests, shift_test

KINDS = ("more anomalous", "more normal", "one candidate")
STRENGTHS = (1, 2, 4)  # of the tilt, in standard deviations of the score that decides
RULES = {
    "auto": AUTO,
    **{name: (name,) for name in ("rtm", "npd", "score_otsu", "score_skewness", "score_variance", "score_shift")},
    **{"+".join(names): names for names in (("rtm", "npd"), ("rtm", "score_skewness"), UNDER_SHIFT, AUTO[1:])},
}


def divide(ranks: Tensor, count: int, kind: str, strength: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of ranks (n,m): ``count`` of them for validation, and the others.

    They are drawn without replacement, an image with weight exp(-strength z), z its standardised score (Gumbel's way;
    Efraimidis & Spirakis, 2006).
    """
    column = torch.randint(ranks.shape[1], (), generator=source)
    score = ranks[:, column] if kind == "one candidate" else ranks.mean(1)
    z = (score - score.mean()) / score.std() * (-1 if kind == "more normal" else 1)
    gumbel = -torch.empty_like(z).exponential_(generator=source).log()
    order = (gumbel - strength * z).argsort(descending=True)
    return order[:count], order[count:]


def cases(zoo: StoredZoo, kind: str, strength: float) -> Iterator[dict[str, Any]]:
    """One row per task and ratio: whether a shift was found, and the regret of every rule."""
    names = zoo.trusted()
    held_out, test = (torch.tensor(zoo.scores[part][names].to_numpy(copy=True)) for part in ("validation", "test"))
    compared = _compared(zoo)
    for view in zoo.views:
        pool = torch.cat([held_out, test[view.rows[view.labels == 0]]])
        anomalies = test[view.rows[view.labels == 1]]
        source = generator(zoo.seed, "shift", view.task, kind, strength)
        ranks = torch.from_numpy(rankdata(pool.numpy(), axis=0))
        of_validation, of_normal = divide(ranks, len(held_out), kind, strength, source)
        validation, normal = pool[of_validation], pool[of_normal]
        everything = torch.cat([compared[0], compared[1][view.rows[view.labels == 0]]])
        all_normal, all_anomalies = everything[of_normal], compared[1][view.rows[view.labels == 1]]
        columns = range(len(names))
        aurocs = np.array([probability_above(normal[:, j], anomalies[:, j]).item() for j in columns])
        moved = np.median([probability_above(validation[:, j], normal[:, j]).item() for j in columns])
        case = {"task": view.task, "group": view.group, "kind": kind, "strength": strength, "moved": moved}
        mixed = zip(_mixed(normal, anomalies, zoo.seed), _mixed(all_normal, all_anomalies, zoo.seed), strict=True)
        for (ratio, rows), (_, of_all) in mixed:
            values = _values(zoo, names, validation, rows)
            shares = values.rank()
            chosen = {name: names.index(shares[list(rule)].mean(axis=1).idxmax()) for name, rule in RULES.items()}
            chosen["auto"] = names.index(best_first(values, values, Rule.of(*AUTO))[0])
            regrets = {name: aurocs.max() - aurocs[place] for name, place in chosen.items()}
            is_shifted = shift_test(everything[of_validation], of_all).is_shifted
            regrets["with fallback"] = regrets["+".join(UNDER_SHIFT) if is_shifted else "auto"]
            has_evidence = strength == 0 and savage_score_test(everything[of_validation], of_all, zoo.seed) <= LEVEL
            tests = {"is_shifted": is_shifted, "has_evidence": has_evidence}
            yield case | {"ratio": ratio, "random": aurocs.max() - aurocs.mean()} | tests | regrets


def _compared(zoo: StoredZoo) -> tuple[Tensor, Tensor]:
    """The scores that are tested: of all candidates, whereas a choice is made among those that did not collapse."""
    assert not isinstance(zoo.compared, str), zoo.compared
    return zoo.compared


def _mixed(normal: Tensor, anomalies: Tensor, seed: int) -> Iterator[tuple[float, Tensor]]:
    together = torch.cat([normal, anomalies])
    labels = torch.cat([torch.zeros(len(normal)), torch.ones(len(anomalies))]).long()
    for ratio, number, rows in View("", "", "", torch.arange(len(together)), labels).trials(RATIOS, seed):
        if number == 0:
            yield ratio, together[rows]


def _values(zoo: StoredZoo, names: list[str], validation: Tensor, test: Tensor) -> pd.DataFrame:
    names_of_criteria = sorted({name for rule in RULES.values() for name in rule})
    rows = {}
    for column, name in enumerate(names):
        evidence = Evidence(
            validation_scores=validation[:, column],
            test_scores=test[:, column],
            pseudo_scores=zoo.part("pseudo", name),
        )
        rows[name] = criteria.evaluate(evidence, names_of_criteria)
    return pd.DataFrame(rows).T


def as_stored(zoo: StoredZoo) -> Iterator[dict[str, Any]]:
    """One row per trial of every task as it is: whether a shift was found.

    And, which takes labels, whether the normal test images alone differ from the validation images.
    """
    held_out, test = _compared(zoo)
    for view in zoo.views:
        normal = test[view.rows[view.labels == 0]]
        p_by_labels = 2 * min(savage_score_test(sign * held_out, sign * normal, zoo.seed) for sign in (1, -1))
        for ratio, _, rows in view.trials(RATIOS, zoo.seed):
            comparison = shift_and_anomaly_tests(held_out, test[rows], zoo.seed)
            tests = {"is_shifted": comparison.is_shifted, "has_evidence": not comparison.no_evidence_of_anomalies}
            yield {"task": view.task, "ratio": ratio, "by labels": min(p_by_labels, 1.0)} | tests


def shifts(
    results: Annotated[Path, typer.Argument(help="Folder of a suite's results, with its zoos.")],
) -> None:
    """Print how often a shift of the normal images is found, and the regrets of choices under it.

    Example: ssad benchmark study shifts benchmarks/results/development
    """
    stored, controlled = [], []
    settings = [(KINDS[0], 0.0), *((kind, strength) for kind in KINDS for strength in STRENGTHS)]
    reason = ""
    for path, name, _, seed in track(sorted(stored_zoos(results)), console=Console(stderr=True)):
        zoo = StoredZoo.read(path, seed)
        if isinstance(zoo.compared, str):
            reason = zoo.compared
            print(f"{name}, seed {seed}, is left out: {reason}")
            continue
        stored += [{"data set": name} | row for row in as_stored(zoo)]
        controlled += [{"data set": name} | row for setting in settings for row in cases(zoo, *setting)]
    if not stored:
        raise InputError(str(results), f"has no zoo to test for a shift: {reason}", "name a suite with more images")
    per_set = pd.DataFrame(stored).groupby("data set")
    print_table(
        _rounded(per_set[["is_shifted", "has_evidence"]].mean().join(per_set["by labels"].median())),
        "As stored: shares of trials in which a shift is found and in which there is evidence of anomalies, and the\n"
        "median p-value of a difference between the normal test images alone and the validation images (needs labels)",
    )
    table = pd.DataFrame(controlled)
    at = ["kind", "strength"]
    regrets = [name for name in table if name in {*RULES, "with fallback", "random"}]
    shares = table.pivot_table(index=at, columns="ratio", values="is_shifted")
    moved = table.groupby(at)[["moved"]].mean().join(shares)
    print_table(_rounded(moved), "Controlled: share found by ratio; moved: P(normal test score > validation score)")
    print_table(_rounded(_over_sets(table, at)[regrets]), "Controlled: mean regret, first over each data set")
    print_table(_rounded(_over_sets(table[table.is_shifted], ["kind"])[regrets]), "Where a shift is found")
    still = table[table.strength == 0].groupby(["ratio", "has_evidence"])
    print_table(
        _rounded(still[["auto", "random"]].mean().join(still.size().rename("cases"))),
        "Without a shift, by whether there is evidence of anomalies: mean regret over all cases, and their number",
    )


def _over_sets(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    return table.groupby([*by, "data set"]).mean(numeric_only=True).groupby(by).mean()


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    return table.reset_index().round(3).astype(str)
