"""What can be said of a candidate beside others alone: numbers that compare what several make of the same images.

A criterion looks at one candidate, which is enough within a kind. Between kinds it is not: how far scores of anomalies
lie above those of normal images depends on what a kind's scores are, and candidates are judged on other pseudo
anomalies each, because their own family is left out. What is compared here is compared image by image, or family by
family.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from selector.evidence.auroc import probability_above
from selector.evidence.evidence import Evidence

Floats = NDArray[np.float64]
Reading = Mapping[Hashable, float] | Floats
DECIMALS = 12
MOST_IMAGES = 2_000  # test images that rankings are compared on; of more, evenly spaced ones


@dataclass(frozen=True)
class Comparison:
    """A number for each of several candidates, higher is better, with what a report must know about it.

    Args:
        name: the name of its column.
        needs: the fields of Evidence that are read of a candidate.
        source: the paper, or where it comes from.
        read: what is compared of one candidate.
        compare: that of m candidates, and the kind of each, to (m,) values; nan for one that has no other to be
            compared with.
        description: one sentence for a reader who sees the name in a report.
        votes: how many it has in a Borda with others.
    """

    name: str
    needs: tuple[str, ...]
    source: str
    read: Callable[[Evidence], Any]
    compare: Callable[[Sequence[Any], Sequence[Hashable]], Floats]
    description: str
    votes: int = 1
    higher_is_better: bool = True
    uses_draws: bool = False

    def __call__(self, readings: Sequence[Any], kinds: Sequence[Hashable]) -> Floats:
        """(m,) the values of candidates whose kinds and readings these are; what is equal but for rounding ties."""
        return np.round(self.compare(readings, kinds), DECIMALS)

    @property
    def needs_test(self) -> bool:
        """Whether it can't be computed without test images."""
        return "test_scores" in self.needs


def aurocs_by_family(evidence: Evidence) -> dict[str, float]:
    """The AUROC of each family's pseudo anomalies against held-out normal images; the candidate's own are not there."""
    normal, pseudo = evidence.require(("validation_scores", "pseudo_scores"), by="a comparison by family")
    families = evidence.pseudo_families or ("",)
    blocks = pseudo.reshape(len(families), -1)
    return dict(zip(families, probability_above(normal.expand(len(blocks), -1), blocks).tolist(), strict=True))


def adjusted_for_family(
    readings: Sequence[Mapping[Hashable, float]], kinds: Sequence[Hashable], *, as_ranks: bool = True
) -> Floats:
    """How much better a candidate does than others on the same pseudo anomalies, whichever of them it lacks.

    Each AUROC becomes the share of the other candidates that do worse on that family, or stays as it is. They are then
    taken as the sum of what is the candidate's and what is the family's, fitted by least squares to the cells that
    there are: the additive two-way model without interaction (Yates, 1933). So none gains by having an easy family, or
    loses by lacking one.

    Args:
        readings: of each of m candidates the AUROC by family.
        kinds: not used: families are the same for all.
        as_ranks: whether shares are compared, and not AUROCs.
    Returns:
        (m,) the candidates' parts, 0 on average over families; nan without any family.
    """
    families = list(dict.fromkeys(family for reading in readings for family in reading))
    cells = np.array([[reading.get(family, np.nan) for family in families] for reading in readings], float)
    cells = cells.reshape(len(readings), len(families))
    if as_ranks:
        for column in cells.T:
            there = ~np.isnan(column)
            column[there] = (rankdata(column[there]) - 1) / max(there.sum() - 1, 1)
    there = (~np.isnan(cells)).astype(float)
    count = there.sum(1)
    filled = np.nan_to_num(cells)
    mean = filled.sum(1) / np.maximum(count, 1)
    # The candidates' parts are eliminated: one equation for each family is left, one of which follows from the others.
    share = there / np.maximum(count, 1)[:, None]
    left = np.diag(there.sum(0)) - there.T @ share
    right = (filled - there * mean[:, None]).sum(0)
    of_family = np.linalg.lstsq(left, right, rcond=None)[0]
    of_family -= of_family.mean() if len(families) else 0
    return np.where(count > 0, mean - share @ of_family, np.nan)


def ranks(evidence: Evidence) -> Floats:
    """(k,) the ranks of the test images' scores, ties sharing their mean, as multiples of their deviation."""
    (scores,) = evidence.require(("test_scores",), by="a comparison of test scores")
    values = scores.detach().double().cpu()
    if len(values) > MOST_IMAGES:
        values = values[torch.linspace(0, len(values) - 1, MOST_IMAGES).round().long()]
    ranked = rankdata(values.numpy())
    ranked -= ranked.mean()
    return ranked / max(np.sqrt((ranked**2).mean()), np.finfo(float).tiny)


def agreement_across_kinds(readings: Sequence[Floats], kinds: Sequence[Hashable]) -> Floats:
    """(m,) the mean of Spearman's rho between a candidate's test scores and those of each candidate of another kind.

    Candidates of one kind err together, so that their agreement shows little; what different kinds find alike is more
    likely there. nan where all are of one kind.
    """
    matrix = np.stack(readings)
    rho = matrix @ matrix.T / matrix.shape[1]
    codes = {kind: code for code, kind in enumerate(dict.fromkeys(kinds))}
    code = np.array([codes[kind] for kind in kinds])
    other = code[:, None] != code
    with np.errstate(invalid="ignore"):
        return (rho * other).sum(1) / np.where(other.any(1), other.sum(1), np.nan)


COMPARISONS = {
    comparison.name: comparison
    for comparison in (
        Comparison(
            "family_adjusted_auc", ("validation_scores", "pseudo_scores"), "additive two-way fit (Yates, 1933)",
            aurocs_by_family, adjusted_for_family,
            "Share of the other candidates beaten at telling each family's pseudo anomalies from held-out normal "
            "images, adjusted for the family that a candidate was trained on and lacks.",
            votes=4,  # of 1 to 4, and of the first alone, what lost least on the data sets of `development`
        ),
        Comparison(
            "agreement_across_kinds", ("test_scores",), "mean Spearman's rho",
            ranks, agreement_across_kinds,
            "Mean rank correlation of the test scores with those of candidates of other kinds.",
        ),
    )
}  # fmt: skip
