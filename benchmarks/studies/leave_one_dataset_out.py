"""Whether a rule that was chosen on some data sets is good on another: each is left out once.

The procedure is fixed: of the Bordas over a level, a shape and both pseudo anomalies (and, as another procedure, of all
these criteria alone), the one whose mean regret over the cases of the other data sets is least decides on the one that
is left out; ties go to the earlier in the order of the criteria. Labels of a data set have no part in which Borda
decides on it. Not left out are what decides where a shift is found and how many members an ensemble has: the default's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import rankdata
from torch import Tensor

from augmentations import InputError
from benchmarks.evaluation.ensembles import Pool
from benchmarks.evaluation.evaluate import COLUMNS, FLOAT, Judged, aurocs, higher_is_better, zoos
from benchmarks.leaderboard import result, tables, text
from benchmarks.leaderboard.content import undecided
from benchmarks.suites.run import OF_SCORES, load_settings
from detectors import files
from selector.ranking.rules import DEFAULT_MEMBERS, UNDER_SHIFT

# What the criteria of scores look at: how far test scores lie above validation scores, how they are distributed, and no
# test image at all. Each fails where others need not, so a Borda has one of the first, one of the second, and the last.
LEVELS = ("score_shift", "score_wasserstein", "score_q90", "score_q75", "score_q95", "score_exceed", "pu_auc")
SHAPES = ("score_variance", "score_pearson_skew", "score_skewness", "rtm", "score_otsu")
PSEUDO = ("pseudo_auc", "npd")
Rule = tuple[int, ...]  # places of its criteria in OF_SCORES
# Rows of the table and what they are called there; the first ones are chosen here, the rest as ``judging`` left them.
CHOSEN = {
    "chosen_borda": "Borda, chosen on the others",
    "chosen_ensemble": f"ensemble of {DEFAULT_MEMBERS} by that Borda",
    "chosen_single": "single criterion, chosen on the others",
}
FIXED = ("default", "ensemble", "dsv", "random")
SIGNS = np.array([[1 if higher_is_better(name) else -1] for name in OF_SCORES])


def _places(*names: str) -> Rule:
    return tuple(OF_SCORES.index(name) for name in names)


BORDAS: tuple[Rule, ...] = tuple(_places(*both, *PSEUDO) for both in product(LEVELS, SHAPES))
SINGLES: tuple[Rule, ...] = tuple((place,) for place in range(len(OF_SCORES)))
CSV, MARKDOWN = "leave_one_out.csv", "leave_one_out.md"


@dataclass(frozen=True, eq=False)
class Case:
    """A task, a seed and an anomaly ratio, with what a rule meets in each of its trials (t) of criteria (c) of
    candidates (m), and what its choice is worth; shifted (t,): where UNDER_SHIFT decides instead.

    points (t,c,m): twice the number of candidates that one beats, ties counting half, so that sums are exact; places
    (t,c,m): its place by the criterion, the best last, ties to the earlier; auroc (m,), and the best of the zoo's.
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
    pool: Pool

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
        """What each rule's choice is worth (r,), the mean over trials."""
        return self.auroc[self.order(rules).argmax(-1)].mean(0)

    def ensemble(self, rule: Rule) -> float:
        """What the ensemble of a rule's DEFAULT_MEMBERS best is worth, the mean over trials."""
        names = np.array(list(self.pool.scores))
        best = (-self.order([rule])[:, 0]).argsort(axis=1)[:, :DEFAULT_MEMBERS]
        return float(np.mean([self.pool.highest(names[members]) for members in best]))


def cases(zoo: Judged, ratios: tuple[float, ...]) -> list[Case]:
    """What rules meet in a zoo; nothing where no candidate was trained without collapsing."""
    names = zoo.trusted()
    found: list[Case] = []
    for view in zoo.views if names else ():
        auroc = aurocs(zoo, view, names).set_index("candidate").auroc[zoo.trained]
        trials: dict[float, list[tuple[np.ndarray, bool]]] = {}

        def seen(images: Tensor) -> tuple[pd.DataFrame, bool]:
            return zoo.measure(images, names), zoo.is_shifted(images, names)

        for ratio, _, (values, shifted) in zoo.trials(view, ratios, seen):
            signed = SIGNS * values.reindex(columns=OF_SCORES).to_numpy(float).T
            trials.setdefault(ratio, []).append((signed, shifted))
        shared = (auroc[names].to_numpy(), float(auroc.max()), zoo.pool(view, names))
        for ratio, met in trials.items():
            every, shifts = zip(*met, strict=True)
            met_by_all = (*_compared(np.stack(every)), np.array(shifts))
            found.append(Case(view.group, view.task, zoo.seed, ratio, *met_by_all, *shared))
    return found


def _compared(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and places (t,c,m) of values (t,c,m), higher = better; without a value nobody is beaten, and the last
    place taken."""
    own, other = values[..., :, None], values[..., None, :]
    points = 2 * (own > other).sum(-1) + (own == other).sum(-1) - ~np.isnan(values)
    filled = np.where(np.isnan(values), -np.inf, values)
    return points, rankdata(filled[..., ::-1], method="ordinal", axis=-1)[..., ::-1].astype(int) - 1


def choose(regrets: np.ndarray, data_sets: np.ndarray) -> dict[str, int]:
    """For every data set the rule that loses least on the others: regrets (n,r) of n cases, data_sets (n,).

    Raises InputError for fewer than two data sets.
    """
    groups = list(dict.fromkeys(data_sets.tolist()))
    if len(groups) < 2:
        raise InputError("data sets", f"{len(groups)}, but must be at least 2", "leave one out of a suite of several")
    return {group: int(regrets[data_sets != group].mean(0).argmin()) for group in groups}


def leave_one_out(given: Sequence[Case]) -> pd.DataFrame:
    """Rows as of a leaderboard, for every case what was chosen without its data set, and ``rule``: the names of its
    criteria, joined by spaces.

    Raises InputError as ``choose`` does.
    """
    data_sets = np.array([case.data_set for case in given])
    rows = []
    for name, rules in (("chosen_borda", BORDAS), ("chosen_single", SINGLES)):
        aurocs = np.stack([case.aurocs(rules) for case in given])
        chosen = choose(np.array([case.best for case in given])[:, None] - aurocs, data_sets)
        for case, auroc in zip(given, aurocs, strict=True):
            place = chosen[case.data_set]
            rows.append(_row(case, name, auroc[place], rules[place]))
            if name == "chosen_borda":
                rows.append(_row(case, "chosen_ensemble", case.ensemble(rules[place]), rules[place]))
    return pd.DataFrame(rows).reindex(columns=[*COLUMNS, "rule"])


def _row(case: Case, name: str, auroc: float, rule: Rule) -> dict[str, object]:
    described = {"task": case.task, "seed": case.seed, "anomaly_ratio": case.ratio, "criterion": name}
    judged = {"auroc": auroc, "regret": case.best - auroc, "reason": ""}
    return described | judged | {"rule": " ".join(OF_SCORES[place] for place in rule)}


def write(out: Path) -> Path:
    """Leave every data set of a judged run out once, and write leave_one_out.csv, its rows, and leave_one_out.md, the
    tables; returns the latter's path.

    Raises InputError for a folder that holds no judged run, or of a single data set.
    """
    judged = result.read(out)
    ratios = tuple(load_settings(out)["frozen"]["ratios"])
    parts = Parallel(n_jobs=-1)(delayed(_of_folder)(folder, seed, ratios) for folder, seed in zoos(out))
    rows = leave_one_out([case for part in parts for case in part])
    files.write_bytes(out / CSV, rows.to_csv(index=False, float_format=FLOAT).encode())
    files.write_bytes(out / MARKDOWN, markdown(judged, pd.read_csv(out / CSV, keep_default_na=False)).encode())
    return out / MARKDOWN


def _of_folder(folder: Path, seed: int, ratios: tuple[float, ...]) -> list[Case]:
    return cases(Judged.read(folder, seed), ratios)


def markdown(judged: result.Result, rows: pd.DataFrame) -> str:
    """The rows that ``leave_one_out`` gave beside those of the leaderboard, as Markdown."""
    fixed = judged.rows[judged.rows.criterion.isin([*FIXED, "average"])]
    ratio_names = judged.rows.drop_duplicates("anomaly_ratio").set_index("anomaly_ratio").ratio
    added = rows.assign(data_set=rows.task.map(judged.tasks.data_set), ratio=rows.anomaly_ratio.map(ratio_names))
    numeric = {name: pd.to_numeric(added[name]) for name in ("rank", "spearman")}
    both = replace(judged, rows=pd.concat([fixed, added.assign(**numeric).drop(columns="rule")], ignore_index=True))
    told = tables.decidable(judged)
    lines = [
        f"# Each data set left out: {text.markdown_escaped(judged.settings['suite'])}",
        "",
        f"Of {len(BORDAS)} Bordas over one of {len(LEVELS)} levels of the test scores, one of {len(SHAPES)} shapes of "
        f"their distribution and both criteria of pseudo anomalies, and of these {len(OF_SCORES)} criteria alone, the "
        "one decides on a data set whose mean regret on the others is least. The rest is as everywhere.",
        *_table("All data sets", both),
    ]
    if told.some:
        lines += [*_table("Decidable data sets", both.restrict(told.names)), "", text.markdown_escaped(undecided(told))]
    lines += ["", "## What was chosen", "", "| data set | Borda | single criterion |", "|---|---|---|"]
    once = added.drop_duplicates(["data_set", "criterion"])
    for name, row in once.pivot(index="data_set", columns="criterion", values="rule").iterrows():
        cells = map(text.markdown_escaped, (str(name), row.chosen_borda.replace(" ", ", "), row.chosen_single))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _table(title: str, shown: result.Result) -> Iterable[str]:
    summary = tables.summary(shown)
    yield from ("", f"## {title}", "")
    headings = ["mean regret", *(f"at {ratio}" for ratio in shown.ratios), "worse than mean", "p to default"]
    yield f"| chosen by | {' | '.join(headings)} |"
    yield "|---" + "|--:" * len(headings) + "|"
    columns = ["mean_regret", *(f"regret_at_{ratio}" for ratio in shown.ratios), "worse_than_mean"]
    for name, row in summary.drop(index="average").iterrows():
        numbers = [*(text.decimals(row[column]) for column in columns), text.p_value(row.p_holm)]
        yield f"| {CHOSEN.get(str(name), text.markdown_escaped(str(name)))} | {' | '.join(numbers)} |"
    yield from ("", f"p: Wilcoxon's signed-rank test over {tables.LEVELS[tables.unit(shown)]}, corrected by Holm.")
