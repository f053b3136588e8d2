"""Whether a rule that was chosen on some data sets is good on another: each is left out once.

The procedure is fixed: of the Bordas over a level, a shape and both criteria of pseudo anomalies (and, as another
procedure, of all these criteria alone), the one with the smallest mean regret over the cases of the other data sets
decides on the one that is left out; ties go to the earlier in the order of the criteria. Labels of a data set have no
part in which Borda decides on it. Two things are the default's, and not chosen without the data set: the rule under a
shift, and how many members an ensemble has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import rankdata
from torch import Tensor

from augmentations import InputError
from benchmarks.evaluation.always import ALWAYS
from benchmarks.evaluation.ensembles import Ensembles
from benchmarks.evaluation.evaluate import COLUMNS, FLOAT, higher_is_better
from benchmarks.evaluation.stored_zoo import StoredZoo, aurocs
from benchmarks.leaderboard import result, tables, text
from benchmarks.leaderboard.content import unresolved
from benchmarks.leaderboard.markdown import markdown_table
from benchmarks.suites.files import OF_SCORES, load_settings, stored_zoos
from detectors import files
from selector.ranking.borda import borda_points
from selector.ranking.rules import DEFAULT_MEMBERS, UNDER_SHIFT

# What the criteria of scores measure: how far test scores lie above validation scores, how they are distributed, and
# pseudo anomalies without any test image. Their failures differ, so a Borda has one of the first, one of the second and
# both of the last.
LEVELS = ("score_shift", "score_wasserstein", "score_q90", "score_q75", "score_q95", "score_exceed", "pu_auc")
SHAPES = ("score_variance", "score_pearson_skew", "score_skewness", "rtm", "score_otsu")
PSEUDO = ("pseudo_auc", "npd")
Rule = tuple[int, ...]  # places of its criteria in OF_SCORES
# Rows of the table and their titles: those that are chosen here, and those of the leaderboard.
CHOSEN = {
    "chosen_borda": "Borda, chosen on the others",
    "chosen_ensemble": f"ensemble of {DEFAULT_MEMBERS} by that Borda",
    "chosen_single": "single criterion, chosen on the others",
}
FIXED = ("default", "ensemble", "dsv", "random", "random_members", *ALWAYS)
SIGNS = np.array([[1 if higher_is_better(name) else -1] for name in OF_SCORES])


def _places(*names: str) -> Rule:
    return tuple(OF_SCORES.index(name) for name in names)


BORDAS: tuple[Rule, ...] = tuple(_places(*both, *PSEUDO) for both in product(LEVELS, SHAPES))
SINGLES: tuple[Rule, ...] = tuple((place,) for place in range(len(OF_SCORES)))
CSV, MARKDOWN = "leave_one_dataset_out.csv", "leave_one_dataset_out.md"


@dataclass(frozen=True, eq=False)
class Case:
    """A task, a seed and an anomaly ratio, with trials (t) of criteria (c) of candidates (m).

    Args:
        data_set: group of data sets that is left out together.
        task: name of the task.
        seed: of the zoo.
        ratio: of anomalies.
        points: (t,c,m), twice the number of candidates that a candidate beats, ties counting half: sums are exact.
        places: (t,c,m), place of the candidate by the criterion, the best last, ties to the earlier.
        shifted: (t,), where UNDER_SHIFT decides instead of the rule.
        auroc: (m,).
        best: the best AUROC of the zoo.
        ensembles: of the candidates.
    """

    data_set: str
    task: str
    seed: int
    ratio: float
    points: np.ndarray
    places: np.ndarray
    shifted: np.ndarray
    auroc: np.ndarray
    best: float
    ensembles: Ensembles

    def order(self, rules: Sequence[Rule]) -> np.ndarray:
        """Higher for what a rule places higher, (t,r,m): the Borda count, ties to its first criterion's better."""
        instead = self._order([_places(*UNDER_SHIFT)])
        return np.where(self.shifted[:, None, None], instead, self._order(rules))

    def _order(self, rules: Sequence[Rule]) -> np.ndarray:
        member = np.zeros((len(rules), self.points.shape[1]), int)
        for row, rule in zip(member, rules, strict=True):
            row[list(rule)] = 1
        m = len(self.auroc)
        return np.einsum("rc,tcm->trm", member, self.points) * m + self.places[:, [rule[0] for rule in rules]]

    def aurocs(self, rules: Sequence[Rule]) -> np.ndarray:
        """The AUROC (r,) of each rule's choice, the mean over trials."""
        return self.auroc[self.order(rules).argmax(-1)].mean(0)

    def ensemble(self, rule: Rule) -> float:
        """The AUROC of the ensemble of a rule's DEFAULT_MEMBERS best, the mean over trials."""
        names = np.array(list(self.ensembles.scores))
        best = (-self.order([rule])[:, 0]).argsort(axis=1)[:, :DEFAULT_MEMBERS]
        return float(np.mean([self.ensembles.normalized(names[members]) for members in best]))


def cases(zoo: StoredZoo, ratios: tuple[float, ...]) -> list[Case]:
    """The cases of a zoo; none where no candidate was trained without collapsing."""
    names = zoo.trusted()
    all_cases: list[Case] = []
    for view in zoo.views if names else ():
        auroc = aurocs(zoo, view, names).set_index("candidate").auroc[zoo.trained]
        trials: dict[float, list[tuple[np.ndarray, bool]]] = {}

        def values_and_shift(images: Tensor) -> tuple[pd.DataFrame, bool]:
            return zoo.score_criteria(images, names), zoo.is_shifted(images)

        for ratio, _, (values, shifted) in zoo.trials(view, ratios, values_and_shift):
            signed = SIGNS * values.reindex(columns=OF_SCORES).to_numpy(float).T
            trials.setdefault(ratio, []).append((signed, shifted))
        shared = (auroc[names].to_numpy(), float(auroc.max()), zoo.ensembles(view, names))
        for ratio, of_trials in trials.items():
            signed_values, shifts = zip(*of_trials, strict=True)
            compared = (*_compared(np.stack(signed_values)), np.array(shifts))
            all_cases.append(Case(view.group, view.task, zoo.seed, ratio, *compared, *shared))
    return all_cases


def _compared(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and places (t,c,m) of values (t,c,m), higher = better; nan beats no candidate and takes the last place."""
    filled = np.where(np.isnan(values), -np.inf, values)
    return borda_points(values), rankdata(filled[..., ::-1], method="ordinal", axis=-1)[..., ::-1].astype(int) - 1


def best_on_others(regrets: np.ndarray, data_sets: np.ndarray) -> dict[str, int]:
    """For every data set the rule with the smallest mean regret on the others.

    regrets (n,r) of n cases and r rules, data_sets (n,).

    Raises InputError for fewer than two data sets.
    """
    groups = list(dict.fromkeys(data_sets.tolist()))
    if len(groups) < 2:
        raise InputError(
            "data sets", f"are {len(groups)}, but at least 2 are needed", "leave one out of a suite of several"
        )
    return {group: int(regrets[data_sets != group].mean(0).argmin()) for group in groups}


def leave_one_dataset_out(all_cases: Sequence[Case]) -> pd.DataFrame:
    """Rows as of a leaderboard, for every case what was chosen without its data set, and ``rule``: the names of its
    criteria, joined by spaces.

    Raises InputError as ``best_on_others`` does.
    """
    data_sets = np.array([case.data_set for case in all_cases])
    rows = []
    for name, rules in (("chosen_borda", BORDAS), ("chosen_single", SINGLES)):
        aurocs = np.stack([case.aurocs(rules) for case in all_cases])
        chosen = best_on_others(np.array([case.best for case in all_cases])[:, None] - aurocs, data_sets)
        for case, auroc in zip(all_cases, aurocs, strict=True):
            place = chosen[case.data_set]
            rows.append(_row(case, name, auroc[place], rules[place]))
            if name == "chosen_borda":
                rows.append(_row(case, "chosen_ensemble", case.ensemble(rules[place]), rules[place]))
    return pd.DataFrame(rows).reindex(columns=[*COLUMNS, "rule"])


def _row(case: Case, name: str, auroc: float, rule: Rule) -> dict[str, object]:
    described = {"task": case.task, "seed": case.seed, "anomaly_ratio": case.ratio, "criterion": name}
    results = {"auroc": auroc, "regret": case.best - auroc, "reason": ""}
    return described | results | {"rule": " ".join(OF_SCORES[place] for place in rule)}


def write(out: Path) -> Path:
    """Leave every data set of an evaluated run out once, and write the rows, leave_one_dataset_out.csv, and the tables,
    leave_one_dataset_out.md; returns the path of the latter.

    Raises InputError for a folder without an evaluated run, or a run of a single data set.
    """
    evaluated = result.read(out)
    ratios = tuple(load_settings(out)["frozen"]["ratios"])
    parts = Parallel(n_jobs=-1)(delayed(_of_folder)(zoo.path, zoo.seed, ratios) for zoo in stored_zoos(out))
    rows = leave_one_dataset_out([case for part in parts for case in part])
    files.write_bytes(out / CSV, rows.to_csv(index=False, float_format=FLOAT).encode())
    files.write_bytes(out / MARKDOWN, markdown(evaluated, pd.read_csv(out / CSV, keep_default_na=False)).encode())
    return out / MARKDOWN


def _of_folder(folder: Path, seed: int, ratios: tuple[float, ...]) -> list[Case]:
    return cases(StoredZoo.read(folder, seed), ratios)


def markdown(evaluated: result.Result, rows: pd.DataFrame) -> str:
    """The rows of ``leave_one_dataset_out`` beside those of the leaderboard, as Markdown."""
    lines = [
        f"# Each data set left out: {text.markdown_escaped(evaluated.settings['suite'])}",
        "",
        f"On each data set the rule decides that has the smallest mean regret on the others: of {len(BORDAS)} Bordas "
        f"over one of {len(LEVELS)} levels of the test scores, one of {len(SHAPES)} shapes of their distribution and "
        f"both criteria of pseudo anomalies; and of these {len(OF_SCORES)} criteria alone. The other rows are the "
        "leaderboard's.",
        *regret_tables(evaluated, rows, CHOSEN),
    ]
    unique = rows.assign(data_set=rows.task.map(evaluated.tasks.data_set)).drop_duplicates(["data_set", "criterion"])
    chosen = unique.pivot(index="data_set", columns="criterion", values="rule").reset_index()
    chosen["Borda"] = chosen.chosen_borda.str.replace(" ", ", ")
    chosen = chosen.rename(columns={"data_set": "data set", "chosen_single": "single criterion"})
    shown = chosen[["data set", "Borda", "single criterion"]].map(text.markdown_escaped)
    return "\n".join([*lines, "", "## What was chosen", "", markdown_table(shown), ""])


def _with_rows(evaluated: result.Result, rows: pd.DataFrame) -> result.Result:
    """The rows FIXED of a run, and those of a study, whose column ``rule`` is left out."""
    fixed = evaluated.rows[evaluated.rows.criterion.isin(FIXED)]
    ratio_names = evaluated.rows.drop_duplicates("anomaly_ratio").set_index("anomaly_ratio").ratio
    of_task = {name: rows.task.map(evaluated.tasks[name]) for name in ("data_set", "group")}
    added = rows.assign(**of_task, ratio=rows.anomaly_ratio.map(ratio_names))
    numeric = {name: pd.to_numeric(added[name]) for name in ("rank", "spearman")}
    return replace(evaluated, rows=pd.concat([fixed, added.assign(**numeric).drop(columns="rule")], ignore_index=True))


def regret_tables(evaluated: result.Result, rows: pd.DataFrame, titles: Mapping[str, str]) -> list[str]:
    """The regrets of FIXED and of the rows of a study over all data sets and over the label-resolvable ones, as lines
    of Markdown; rows are named by titles."""
    both, resolvable = _with_rows(evaluated, rows), tables.label_resolvable(evaluated)
    lines = _table("All data sets", both, titles)
    if resolvable.is_mixed:
        lines += _table("Label-resolvable data sets", both.restrict(resolvable.names), titles)
        lines += ["", text.markdown_escaped(unresolved(resolvable))]
    return lines


def _table(title: str, shown: result.Result, titles: Mapping[str, str]) -> list[str]:
    summary = tables.summary(shown)
    names = {name: titles.get(str(name), text.markdown_escaped(str(name))) for name in summary.index}
    regrets = {"mean regret": "mean_regret"} | {f"at {ratio}": f"regret_at_{ratio}" for ratio in shown.ratios}
    columns = {
        title: summary[column].map(text.decimals)
        for title, column in (regrets | {"worse than mean": "worse_than_mean"}).items()
    }
    columns["p to default"] = summary.p_holm.map(text.p_value)
    cells = pd.DataFrame({"chosen by": summary.index.map(names)} | {t: list(c) for t, c in columns.items()})
    unit = tables.LEVELS[tables.level(shown)]
    note = f"p: Wilcoxon's signed-rank test over {unit}, corrected by Holm."
    return ["", f"## {title}", "", markdown_table(cells), "", note]
