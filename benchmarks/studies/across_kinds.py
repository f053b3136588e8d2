"""Whether a choice between kinds that was made on some data sets is good on another: each is left out once.

What is chosen is all of it: what ranks candidates, how many of the first are members, which criterion chooses others
beside them and how many, whether also where a shift is found, and how members are combined. The one with the smallest
mean regret over the cases of the other data sets decides on the one that is left out; ties go to the earlier.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from torch import Tensor

from benchmarks.evaluation.ensembles import Ensembles
from benchmarks.evaluation.evaluate import COLUMNS, FLOAT
from benchmarks.evaluation.stored_zoo import StoredZoo, aurocs
from benchmarks.leaderboard import result, text
from benchmarks.leaderboard.markdown import markdown_table
from benchmarks.studies.leave_one_dataset_out import best_on_others, regret_tables
from benchmarks.suites.files import load_settings, stored_zoos
from detectors import files
from detectors.ensemble import COMBINATIONS, MEAN
from selector import criteria
from selector.ranking.borda import borda
from selector.ranking.comparisons import COMPARISONS
from selector.ranking.rules import AUTO, COMPLEMENT, DEFAULT_MEMBERS_ACROSS_KINDS

# What ranks, as votes by criterion: comparisons between kinds, in other shares, and what ranks candidates of one kind.
RANKINGS: tuple[dict[str, int], ...] = (
    {"family_adjusted_auc": 4, "agreement_across_kinds": 1},
    {"family_adjusted_auc": 2, "agreement_across_kinds": 1},
    {"family_adjusted_auc": 1, "agreement_across_kinds": 1},
    {"family_adjusted_auc": 1},
    dict.fromkeys(AUTO, 1),
)
COMPLEMENTS = ("dsv", "mmd_rbf", "alignment")  # the criteria of embeddings that papers select by
MOST = 4  # members that the ranking, or a complement, chooses
CHOSEN = "chosen_across_kinds"
CSV, CHOICES_CSV, MARKDOWN = "across_kinds.csv", "across_kinds_choices.csv", "across_kinds.md"


class Choice(NamedTuple):
    """How the recommended ensemble is chosen.

    ranking: the place in RANKINGS. first: how many of the first are members. complement: which criterion chooses
    others, "" for none. others: how many. under_shift: whether it does where a shift is found, and else as many more of
    the first are. combine: how.
    """

    ranking: int
    first: int
    complement: str = ""
    others: int = 0
    under_shift: bool = True
    combine: str = COMBINATIONS[0]

    def in_words(self) -> str:
        """As a reader of the table needs it."""
        votes = " + ".join(f"{count} {name}" if count > 1 else name for name, count in RANKINGS[self.ranking].items())
        others = f" and {self.others} by {self.complement}" if self.others else ""
        shifted = "" if self.under_shift or not self.others else ", none by it under a shift"
        return f"{self.first} by {votes}{others}{shifted}; {self.combine}"


HALF = DEFAULT_MEMBERS_ACROSS_KINDS // 2
DEFAULT = Choice(0, first=HALF, complement=COMPLEMENT, others=HALF, combine=MEAN)
CHOICES: tuple[Choice, ...] = tuple(
    Choice(ranking, first, *others, combine)
    for ranking, first in product(range(len(RANKINGS)), range(1, MOST + 1))
    for others in (("", 0, True), *product(COMPLEMENTS, range(1, MOST + 1), (True, False)))
    for combine in COMBINATIONS
)


@dataclass(frozen=True)
class Case:
    """A task, a seed and an anomaly ratio, with the AUROC (c,) of every choice, the mean over trials, and the best."""

    data_set: str
    task: str
    seed: int
    ratio: float
    aurocs: np.ndarray
    best: float


def cases(zoo: StoredZoo, ratios: tuple[float, ...]) -> Iterator[Case]:
    """The cases of a zoo; none where no candidate was trained without collapsing."""
    names = zoo.trusted()
    for view in zoo.views if names else ():
        best = float(aurocs(zoo, view, names).set_index("candidate").auroc[zoo.trained].max())
        ensembles, known = zoo.ensembles(view, names), dict[tuple[tuple[str, ...], str], float]()
        of_embeddings, by_ratio = zoo.embedding_criteria(view.task), dict[float, list[np.ndarray]]()

        def values_and_shift(images: Tensor) -> tuple[pd.DataFrame, bool]:
            return zoo.values(images, names), zoo.is_shifted(images)

        for ratio, trial, (of_scores, is_shifted) in zoo.trials(view, ratios, values_and_shift):
            values = of_scores.join(of_embeddings[ratio, trial])
            by_ratio.setdefault(ratio, []).append(_trial(values, is_shifted, ensembles, known))
        for ratio, trials in by_ratio.items():
            yield Case(view.group, view.task, zoo.seed, ratio, np.mean(trials, 0), best)


def _trial(
    values: pd.DataFrame, is_shifted: bool, ensembles: Ensembles, known: dict[tuple[tuple[str, ...], str], float]
) -> np.ndarray:
    """The AUROC (c,) of every choice in a trial; ``known`` keeps those of ensembles that were evaluated before."""
    ranked = [_ranked(values, votes) for votes in RANKINGS]
    by = {name: _best_by(values[name], criteria.get(name).higher_is_better) for name in COMPLEMENTS}
    found = []
    for choice in CHOICES:
        members = choose(choice, ranked[choice.ranking], by.get(choice.complement, []), is_shifted)
        key = (tuple(sorted(members)), choice.combine)
        if key not in known:
            known[key] = ensembles.normalized(members, choice.combine)
        found.append(known[key])
    return np.array(found)


def choose(choice: Choice, ranked: Sequence[str], by_complement: Sequence[str], is_shifted: bool) -> list[str]:
    """The members: the first of a ranking, and the best of the others by the complement."""
    if is_shifted and not choice.under_shift:
        by_complement = ranked
    first = list(ranked[: choice.first])
    return first + [name for name in by_complement if name not in first][: choice.others]


def _ranked(values: pd.DataFrame, votes: dict[str, int]) -> list[str]:
    directions = {name: name in COMPARISONS or criteria.get(name).higher_is_better for name in votes}
    return _best_by(borda(values, directions, votes=votes), higher_is_better=True)


def _best_by(values: pd.Series, higher_is_better: bool) -> list[str]:
    """The candidates that have a value, best first, ties in their order."""
    return list(values.dropna().sort_values(ascending=not higher_is_better, kind="stable").index)


def leave_one_out(all_cases: Sequence[Case]) -> pd.DataFrame:
    """Rows as of a leaderboard, for every case what was chosen without its data set, and ``rule``: the choice in words.

    Raises InputError as ``best_on_others`` does.
    """
    found = np.stack([case.aurocs for case in all_cases])
    regrets = np.array([case.best for case in all_cases])[:, None] - found
    chosen = best_on_others(regrets, np.array([case.data_set for case in all_cases]))
    rows = [
        {
            **{"task": case.task, "seed": case.seed, "anomaly_ratio": case.ratio, "criterion": CHOSEN, "reason": ""},
            **{"auroc": found[i, place], "regret": regrets[i, place], "rule": CHOICES[place].in_words()},
        }
        for i, case in enumerate(all_cases)
        for place in [chosen[case.data_set]]
    ]
    return pd.DataFrame(rows).reindex(columns=[*COLUMNS, "rule"])


def by_choice(all_cases: Sequence[Case]) -> pd.DataFrame:
    """One row per choice, with its fields, its name in words, and its mean regret over all cases, and by ratio; found
    on these very cases."""
    regrets = pd.DataFrame([case.best - case.aurocs for case in all_cases])
    by_ratio = regrets.groupby([case.ratio for case in all_cases]).mean()
    columns = {"mean_regret": regrets.mean()} | {f"regret_at_{ratio:g}": row for ratio, row in by_ratio.iterrows()}
    words = [choice.in_words() for choice in CHOICES]
    return pd.DataFrame(CHOICES, columns=Choice._fields).assign(words=words, **columns)


def write(out: Path) -> Path:
    """Leave every data set of an evaluated run of several kinds out once, and write the rows, across_kinds.csv, and the
    tables, across_kinds.md; returns the path of the latter.

    Raises InputError for a folder without an evaluated run, or a run of a single data set.
    """
    evaluated = result.read(out)
    ratios = tuple(load_settings(out)["frozen"]["ratios"])
    parts = Parallel(n_jobs=-1)(delayed(_of_folder)(zoo.path, zoo.seed, ratios) for zoo in stored_zoos(out))
    all_cases = [case for part in parts for case in part]
    for name, table in ((CSV, leave_one_out(all_cases)), (CHOICES_CSV, by_choice(all_cases))):
        files.write_bytes(out / name, table.to_csv(index=False, float_format=FLOAT).encode())
    rows, choices = (pd.read_csv(out / name, keep_default_na=False) for name in (CSV, CHOICES_CSV))
    files.write_bytes(out / MARKDOWN, markdown(evaluated, rows, choices).encode())
    return out / MARKDOWN


def _of_folder(folder: Path, seed: int, ratios: tuple[float, ...]) -> list[Case]:
    return list(cases(StoredZoo.read(folder, seed), ratios))


def markdown(evaluated: result.Result, rows: pd.DataFrame, choices: pd.DataFrame) -> str:
    """The rows of ``leave_one_out`` beside those of the leaderboard, and the neighbours of the default, as Markdown."""
    chosen = rows.assign(data_set=rows.task.map(evaluated.tasks.data_set)).drop_duplicates("data_set")
    shown = chosen[["data_set", "rule"]].rename(columns={"data_set": "data set", "rule": "chosen on the others"})
    lines = [
        f"# Choosing between kinds, each data set left out: {text.markdown_escaped(evaluated.settings['suite'])}",
        "",
        f"On each data set the choice decides that has the smallest mean regret on the others: of {len(CHOICES)}, of "
        f"{len(RANKINGS)} rankings, 1 to {MOST} of the first, up to {MOST} of the others by {', '.join(COMPLEMENTS)} "
        "or none, these also under a shift or not, and the maximum or the mean. The other rows are the leaderboard's.",
        *regret_tables(evaluated, rows, {CHOSEN: "ensemble, chosen on the others"}),
        "",
        "## What was chosen",
        "",
        markdown_table(shown.map(text.markdown_escaped)),
        "",
        "## One part of the default changed",
        "",
        "Mean regret on all data sets, on which the default was chosen:",
        "",
        markdown_table(_neighbours(choices)),
        "",
    ]
    return "\n".join(lines)


def _neighbours(choices: pd.DataFrame) -> pd.DataFrame:
    """The default, and the choices that differ from it in one part; no others counts as one."""
    default = choices.iloc[CHOICES.index(DEFAULT)]
    of_others = ["complement", "others", "under_shift"]
    parts = choices[["ranking", "first", "combine"]].ne(default[["ranking", "first", "combine"]]).sum(axis=1)
    changed = choices[of_others].ne(default[of_others]).sum(axis=1)
    near = choices[parts + changed.where(choices.others > 0, 1) <= 1]
    regrets = {name: name.replace("regret_at_", "at ").replace("_", " ") for name in near if "regret" in name}
    shown = near.sort_values("mean_regret", kind="stable")
    cells = {title: shown[name].map(text.decimals) for name, title in regrets.items()}
    return pd.DataFrame({"chosen": shown.words.map(text.markdown_escaped)} | cells)
