"""Why the first of a ranking is first: what each criterion prefers, how far they agree, and what mattered."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from selector import consensus
from selector.ranking.ranking import Ranking
from selector.verdict.importance import EVERY, importances
from selector.verdict.verdict import number

WIDTH = 100  # characters of a line in a terminal
FEW = "needs two candidates with status ok"
PREFERRED = ("criterion", "kind", "decides", "value", "candidate", "rank", "description")


@dataclass(frozen=True, eq=False)
class Explanation:
    """What is behind a choice, of candidates with status ok alone.

    Args:
        preferred: one row per criterion or consensus: criterion, kind ("criterion" or "consensus"), decides, and of the
            candidate that it puts first (of several the first of the ranking) value, candidate, rank and description.
        agreement: Kendall's tau-b of every two of them over the candidates that have both values, all turned so that
            higher = better, and of "Borda" where it decides; nan where one is the same for all these candidates.
        importances: augmentation ("all": between augmentations), hyperparameter and importance, see
            ``selector.verdict.importance``.
        deciding: the row of ``agreement`` that decides.
        absent: what could not be computed, and why.
    """

    preferred: pd.DataFrame
    agreement: pd.DataFrame
    importances: pd.DataFrame
    deciding: str
    absent: Mapping[str, str]

    @property
    def summary(self) -> str:
        """How many prefer the chosen candidate, and how far they agree with what decides; empty where none can."""
        if self.preferred.empty:
            return ""
        same = int((self.preferred["rank"] == 1).sum())
        preference = f"{same} of {len(self.preferred)} criteria and consensus functions prefer the chosen candidate."
        others = self.with_deciding()
        if others.empty:
            return preference
        tau = number(others.mean())
        return f"{preference} On average their Kendall's tau-b with {self.deciding}, which decides, is {tau}."

    def with_deciding(self) -> pd.Series:
        """The tau-b of every other criterion with what decides, highest first."""
        if self.agreement.empty:
            return pd.Series(dtype=float)
        taus = self.agreement[self.deciding].drop(self.deciding).dropna()
        return taus.sort_values(ascending=False, kind="stable")

    def by_candidate(self) -> Iterator[pd.DataFrame]:
        """The rows of ``preferred`` of one candidate after the other, in the order of the ranking."""
        for _, rows in self.preferred.groupby("rank"):
            yield rows

    def __str__(self) -> str:
        return "\n\n".join(filter(None, (textwrap.fill(self.summary, WIDTH), *self._paragraphs())))

    def _paragraphs(self) -> Iterator[str]:
        for rows in self.by_candidate():
            first = rows.iloc[0]
            by = ", ".join(f"{name} {number(value)}" for name, value in zip(rows.criterion, rows.value, strict=True))
            yield _hanging(f"{first['rank']}. {first.description}, preferred by", by)
        if len(taus := self.with_deciding()):
            yield _hanging(f"Agreement with {self.deciding}", ", ".join(f"{n} {number(t)}" for n, t in taus.items()))
        for augmentation, rows in self.importances.groupby("augmentation", sort=False):
            shares = zip(rows.hyperparameter, rows.importance, strict=True)
            yield _hanging(importance_of(augmentation), ", ".join(f"{name} {share:.0%}" for name, share in shares))
        if self.absent:
            yield _hanging("Not available", "; ".join(f"{thing}: {reason}" for thing, reason in self.absent.items()))


def explain(ranking: Ranking, test_scores: Mapping[str, Tensor], seed: int = 0) -> Explanation:
    """The explanation of a ranking.

    Args:
        ranking: the ranking.
        test_scores: (k,) of the same images by the ids of all candidates with status ok; empty, there is no consensus.
        seed: of the random partners of ``mcs`` and ``udr``.
    """
    rows = ranking.table[ranking.table.status == "ok"]
    trusted = rows.set_index("candidate")
    directions = {criterion.name: 1 if criterion.higher_is_better else -1 for criterion in ranking.criteria}
    agreed, absent = _consensus(trusted, test_scores, seed)
    values = trusted[list(directions)].astype(float).join(agreed)
    signs = directions | dict.fromkeys(agreed, 1)
    higher = values * pd.Series(signs)
    deciding = "Borda" if ranking.rule.is_borda else ranking.rule.names[0]
    ordered = higher if deciding in higher else pd.concat([trusted.criterion.rename(deciding), higher], axis=1)
    if len(trusted) < 2:
        absent["Agreement"] = FEW
    shares, reasons = importances(rows)
    absent |= {importance_of(augmentation): reason for augmentation, reason in reasons.items()}
    return Explanation(
        preferred=_preferred(trusted, values, higher, ranking),
        agreement=agreement(ordered) if len(trusted) > 1 else pd.DataFrame(dtype=float),
        importances=shares,
        deciding=deciding,
        absent=absent if len(trusted) else {"Everything": "no candidate has status ok"},
    )


def importance_of(augmentation: str) -> str:
    """What importances of candidates of this augmentation, or of all, are called."""
    return "Importance of augmentations" if augmentation == EVERY else f"Importance within {augmentation}"


def agreement(values: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau-b of every two columns over the rows that have a value in both; nan where one is constant."""
    return values.corr(method="kendall", min_periods=2)


def _consensus(
    trusted: pd.DataFrame, test_scores: Mapping[str, Tensor], seed: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """One column per consensus function, and why there is none."""
    if not test_scores or len(trusted) < 2:
        return pd.DataFrame(index=trusted.index), {"Consensus": FEW if test_scores else "needs test images"}
    ids = sorted(trusted.index)  # random partners depend on the order of candidates
    scores = torch.stack([test_scores[candidate] for candidate in ids], dim=1)
    values = consensus.evaluate(scores, families=list(trusted.augmentation[ids]), seed=seed)
    return pd.DataFrame({name: value.numpy() for name, value in values.items()}, index=ids), {}


def _preferred(trusted: pd.DataFrame, values: pd.DataFrame, higher: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    rows = []
    for name in higher.columns[higher.notna().any()]:
        candidate = higher[name].idxmax()  # the first of equals, and rows are in the order of the ranking
        rows.append(
            {
                "criterion": name,
                "kind": "consensus" if name in consensus.CONSENSUS else "criterion",
                "decides": name in ranking.rule.names,
                "value": float(values[name][candidate]),
                "candidate": candidate,
                "rank": int(trusted["rank"][candidate]),
                "description": ranking.descriptions[candidate],
            }
        )
    return pd.DataFrame(rows, columns=list(PREFERRED))


def _hanging(title: str, text: str) -> str:
    return textwrap.fill(f"{title}: {text}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
