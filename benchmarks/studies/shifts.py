"""What a shift between validation and normal test images does to a choice, and whether it is noticed: Markdown tables.

python -m benchmarks.shifts benchmarks/results/development

Trains nothing: validation and normal test images of a stored zoo are divided anew, so that what one score says of an
image decides with a strength from 0 (at random: nothing is shifted) which of the two it becomes. That score is the mean
rank over candidates (test images "more anomalous" or "more normal" for all of them) or the rank by one candidate, which
others share in part. Anomalies are drawn at the suite's ratios. Pseudo anomalies stay those of the original validation
images. Regret is by the AUROC over all normal test images of that division and all anomalies.
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

from augmentations.randomness import generator
from benchmarks.evaluation.evaluate import Judged
from benchmarks.suites.definitions import RATIOS
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
    """Rows of ranks (n,m) that validate, ``count`` of them, and the others: drawn without replacement, an image with
    weight exp(-strength z), z its standardised score (Gumbel's way; Efraimidis & Spirakis, 2006)."""
    column = torch.randint(ranks.shape[1], (), generator=source)
    score = ranks[:, column] if kind == "one candidate" else ranks.mean(1)
    z = (score - score.mean()) / score.std() * (-1 if kind == "more normal" else 1)
    gumbel = -torch.empty_like(z).exponential_(generator=source).log()
    order = (gumbel - strength * z).argsort(descending=True)
    return order[:count], order[count:]


def cases(zoo: Judged, kind: str, strength: float) -> Iterator[dict[str, Any]]:
    """A row a task and ratio: what was found of the shift, and the regret of every rule."""
    names = zoo.trusted()
    held, test = (torch.tensor(zoo.scores[part][names].to_numpy(copy=True)) for part in ("validation", "test"))
    for view in zoo.views:
        pool = torch.cat([held, test[view.rows[view.labels == 0]]])
        anomalies = test[view.rows[view.labels == 1]]
        source = generator(zoo.seed, "shift", view.task, kind, strength)
        ranks = torch.from_numpy(rankdata(pool.numpy(), axis=0))
        validation, normal = (pool[rows] for rows in divide(ranks, len(held), kind, strength, source))
        columns = range(len(names))
        aurocs = np.array([probability_above(normal[:, j], anomalies[:, j]).item() for j in columns])
        moved = np.median([probability_above(validation[:, j], normal[:, j]).item() for j in columns])
        case = {"task": view.task, "group": view.group, "kind": kind, "strength": strength, "moved": moved}
        for ratio, rows in _mixed(normal, anomalies, zoo.seed):
            values = _values(zoo, names, validation, rows)
            shares = values.rank()
            chosen = {name: names.index(shares[list(rule)].mean(axis=1).idxmax()) for name, rule in RULES.items()}
            chosen["auto"] = names.index(best_first(values, values, Rule.of(*AUTO))[0])
            regrets = {name: aurocs.max() - aurocs[place] for name, place in chosen.items()}
            is_shifted = shift_test(validation, rows).is_shifted
            regrets["with fallback"] = regrets["+".join(UNDER_SHIFT) if is_shifted else "auto"]
            stands_out = strength == 0 and savage_score_test(validation, rows, zoo.seed) <= LEVEL
            told = {"is_shifted": is_shifted, "stands_out": stands_out}
            yield case | {"ratio": ratio, "random": aurocs.max() - aurocs.mean()} | told | regrets


def _mixed(normal: Tensor, anomalies: Tensor, seed: int) -> Iterator[tuple[float, Tensor]]:
    together = torch.cat([normal, anomalies])
    labels = torch.cat([torch.zeros(len(normal)), torch.ones(len(anomalies))]).long()
    for ratio, number, rows in View("", "", "", torch.arange(len(together)), labels).trials(RATIOS, seed):
        if number == 0:
            yield ratio, together[rows]


def _values(zoo: Judged, names: list[str], validation: Tensor, test: Tensor) -> pd.DataFrame:
    asked = sorted({name for rule in RULES.values() for name in rule})
    rows = {}
    for column, name in enumerate(names):
        evidence = Evidence(
            validation_scores=validation[:, column],
            test_scores=test[:, column],
            pseudo_scores=zoo.part("pseudo", name),
        )
        rows[name] = criteria.evaluate(evidence, asked)
    return pd.DataFrame(rows).T


def as_stored(zoo: Judged) -> Iterator[dict[str, Any]]:
    """A row a trial of every task as it is: what was found, and what is found of the normal test images alone, which
    only the labels tell."""
    names = zoo.trusted()
    held, test = (torch.tensor(zoo.scores[part][names].to_numpy(copy=True)) for part in ("validation", "test"))
    for view in zoo.views:
        normal = test[view.rows[view.labels == 0]]
        told_by_labels = 2 * min(savage_score_test(sign * held, sign * normal, zoo.seed) for sign in (1, -1))
        for ratio, _, rows in view.trials(RATIOS, zoo.seed):
            found = shift_and_anomaly_tests(held, test[rows], zoo.seed)
            told = {"is_shifted": found.is_shifted, "stands_out": not found.no_evidence_of_anomalies}
            yield {"task": view.task, "ratio": ratio, "by labels": min(told_by_labels, 1.0)} | told


def tables(
    results: Annotated[Path, typer.Argument(help="Results of a suite: the folder that holds zoos/.")],
) -> None:
    """Print what is found of shifts, as stored and as controlled, and what the choices lose."""
    stored, controlled = [], []
    for folder in track(sorted((results / "zoos").iterdir()), console=Console(stderr=True)):
        name, _, seed = folder.name.rpartition("-")
        zoo = Judged.read(folder, int(seed))
        stored += [{"data set": name} | row for row in as_stored(zoo)]
        dial = [(KINDS[0], 0.0), *((kind, strength) for kind in KINDS for strength in STRENGTHS)]
        controlled += [{"data set": name} | row for kind, strength in dial for row in cases(zoo, kind, strength)]
    print("As stored: shares of trials in which a shift is found and something stands out, and the median p-value of a")
    print("difference between the normal test images alone and the validation images, which takes labels\n")
    per_set = pd.DataFrame(stored).groupby("data set")
    print(_markdown(per_set[["is_shifted", "stands_out"]].mean().join(per_set["by labels"].median())))
    table = pd.DataFrame(controlled)
    at = ["kind", "strength"]
    regrets = [name for name in table if name in {*RULES, "with fallback", "random"}]
    print("\nControlled: share found by ratio; moved: P(normal test score > validation score)\n")
    found = table.pivot_table(index=at, columns="ratio", values="is_shifted")
    print(_markdown(table.groupby(at)[["moved"]].mean().join(found)))
    print("\nControlled: mean regret, first over each data set\n")
    print(_markdown(_over_sets(table, at)[regrets]))
    print("\nWhere a shift is found\n")
    print(_markdown(_over_sets(table[table.is_shifted], ["kind"])[regrets]))
    print("\nWithout a shift, by what stands out: mean regret over all cases, and their number\n")
    still = table[table.strength == 0].groupby(["ratio", "stands_out"])
    print(_markdown(still[["auto", "random"]].mean().join(still.size().rename("cases"))))


def _over_sets(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    return table.groupby([*by, "data set"]).mean(numeric_only=True).groupby(by).mean()


def _markdown(table: pd.DataFrame) -> str:
    flat = table.reset_index()
    rows = [flat.columns, ["---"] * len(flat.columns), *flat.round(3).astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


if __name__ == "__main__":
    typer.run(tables)
