"""Score contrast: anomaly scores t of unlabeled test images against scores v of held-out normal images.

Higher is better. If validation and test normals are exchangeable and a share pi of the test images is
anomalous, P(t > v) = pi AUC + (1 - pi) / 2 with the same pi for every candidate; the criteria here estimate
that contrast, or read it from spread, skew and two-group structure. Where test normals differ from
validation normals (another batch, another lamp), those that compare locations fail: score_shift, score_wasserstein,
score_q90, score_exceed, pu_auc, neighbor_shift.

Distance-like scores enter as logarithms lv and lt, other scores as they are. The unit that scores are
measured in is a location and a scale: of distances the mean and the population standard deviation of the
logarithms, of other scores the median and the interquartile range. It is that of v, except in
score_variance, which compares the scale of t with that of v. What a formula says of t itself (its mean,
median, third moment, variance share) stays what it says.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from selector.criteria.base import Criterion, scores_of
from selector.evidence.auroc import probability_above
from selector.evidence.evidence import Evidence
from selector.evidence.pairwise import mean_nearest_distance

SOURCE = "score contrast"
CONTAMINATION = "score contrast; Menon, van Rooyen, Ong & Williamson, ICML 2015"
AUTOUAD = "Dai & Fan, AutoUAD, ICLR 2025"
BOTH = ("validation_scores", "test_scores")
TEST = ("test_scores",)
NEIGHBORHOOD = ("train", "validation", "test")
TOP = 20  # rtm averages one score in 20, rounded up: the top 5%
EXCEED_LEVEL = 0.95
NEIGHBORS = 5


def quantile(values: Tensor, level: float) -> Tensor:
    """Linearly interpolated quantile, 0-d, of any number of values; nan where one is nan."""
    return quantiles(values, (level,))[0]


def quantiles(values: Tensor, levels: Sequence[float]) -> Tensor:
    """Several at once, (levels,)."""
    ordered = values.sort().values  # nan sorts last
    position = torch.tensor(levels, dtype=torch.float64) * (len(values) - 1)
    low = position.floor()
    weight = (position - low).to(values.device, values.dtype)
    below = ordered[low.long().to(values.device)]
    above = ordered[position.ceil().long().to(values.device)]
    # Where a quantile is one of the values, it is that value, infinities included.
    value = torch.where(weight > 0, below + weight * (above - below), below)
    return torch.where(ordered[-1].isnan(), ordered[-1], value)


def _location(values: Tensor, distance: bool) -> Tensor:
    return values.mean() if distance else quantile(values, 0.5)


def _scale(values: Tensor, distance: bool) -> Tensor:
    if distance:  # minus one of them, so that the spread of equal scores is exactly 0 and not rounding noise
        return (values - values.max()).std(correction=0)
    return quantile(values, 0.75) - quantile(values, 0.25)


def _standard(reference: Tensor, values: Tensor, distance: bool) -> Tensor:
    """Values minus the location of the reference, over its scale."""
    return (values - _location(reference, distance)) / _scale(reference, distance)


def _enter(evidence: Evidence, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """Scores as the criteria read them: logarithms where scores are distance-like."""
    entered = scores_of(evidence, names)
    return tuple(scores.log() for scores in entered) if evidence.score_is_distance else entered


def _read(evidence: Evidence) -> tuple[Tensor, Tensor, bool]:
    """lv, lt, and whether they are logarithms of distances."""
    lv, lt = _enter(evidence, BOTH)
    return lv, lt, bool(evidence.score_is_distance)


def score_shift(evidence: Evidence) -> Tensor:
    """Mean z, z = (lt - location of lv) / scale of lv. Source: score contrast."""
    return _standard(*_read(evidence)).mean()


def score_wasserstein(evidence: Evidence) -> Tensor:
    """Mean gap of the quantiles .05, .10, ..., .95 of z and of standardised lv. Source: score contrast."""
    lv, lt, distance = _read(evidence)
    standard_v, z = _standard(lv, lv, distance), _standard(lv, lt, distance)
    levels = [step / 20 for step in range(1, 20)]
    return (quantiles(z, levels) - quantiles(standard_v, levels)).abs().mean()


def score_q90(evidence: Evidence, level: float = 0.90) -> Tensor:
    """A high quantile of z. Source: score contrast."""
    return quantile(_standard(*_read(evidence)), level)


def score_q75(evidence: Evidence) -> Tensor:
    """The .75 quantile of z. Source: score contrast."""
    return score_q90(evidence, level=0.75)


def score_q95(evidence: Evidence) -> Tensor:
    """The .95 quantile of z. Source: score contrast."""
    return score_q90(evidence, level=0.95)


def score_exceed(evidence: Evidence) -> Tensor:
    """Share of t above the .95 quantile of v. Source: score contrast."""
    v, t = scores_of(evidence, BOTH)
    bound = quantile(v, EXCEED_LEVEL)
    return torch.where(t.isnan().any() | bound.isnan(), math.nan, (t > bound).to(t.dtype).mean())


def pu_auc(evidence: Evidence) -> Tensor:
    """P(t > v), ties counted half. Source: Menon et al., ICML 2015 (linear in the clean AUROC)."""
    return probability_above(*scores_of(evidence, BOTH))


def score_variance(evidence: Evidence) -> Tensor:
    """(scale of lt / scale of lv)^2, which is var lt / var lv for distances. Source: score contrast."""
    lv, lt, distance = _read(evidence)
    return (_scale(lt, distance) / _scale(lv, distance)).square()


def score_pearson_skew(evidence: Evidence) -> Tensor:
    """(mean lt - median lt) / scale of lv. Source: score contrast."""
    lv, lt, distance = _read(evidence)
    return (lt.mean() - quantile(lt, 0.5)) / _scale(lv, distance)


def score_skewness(evidence: Evidence) -> Tensor:
    """Mean (lt - mean lt)^3 / (scale of lv)^3. Source: score contrast."""
    lv, lt, distance = _read(evidence)
    return ((lt - lt.mean()) / _scale(lv, distance)).pow(3).mean()


def rtm(evidence: Evidence) -> Tensor:
    """(mean of the top 5% of t - median t) / median t. Source: AutoUAD, relative top-median."""
    (t,) = scores_of(evidence, TEST)
    median = quantile(t, 0.5)
    top = t.topk(-(-len(t) // TOP)).values.mean()
    return (top - median) / median


def score_otsu(evidence: Evidence) -> Tensor:
    """Largest share of the variance of lt that lies between two sides of a threshold. Source: score contrast.

    With prefix sums S_i of the sorted, centred values it is S_i^2 / (i (k - i) var lt), for k - 1 splits.
    """
    (lt,) = _enter(evidence, TEST)
    lt = lt - lt.max()  # as in _scale: no spread is exactly 0
    ordered = (lt - lt.mean()).sort().values
    count = torch.arange(1, len(lt), dtype=lt.dtype, device=lt.device)
    between = ordered.cumsum(0)[:-1].square() / (count * (len(lt) - count))
    most = torch.cat([between, between.new_zeros(1)]).max()  # one score has no split
    return most / ordered.square().mean()


def neighbor_shift(evidence: Evidence) -> Tensor:
    """Mean z of the log mean distance to the 5 nearest train embeddings, test against validation.

    These are distances whatever the scores are. Source: score contrast.
    """
    train, *queries = evidence.require(NEIGHBORHOOD, by="neighbor_shift")
    validation, test = (mean_nearest_distance(rows, train, NEIGHBORS).log() for rows in queries)
    return _standard(validation, test, distance=True).mean()


CRITERIA = (
    Criterion(
        "score_shift", True, BOTH, SOURCE, score_shift,
        "How far the mean test score lies above held-out normal scores, in their spreads.",
    ),
    Criterion(
        "score_wasserstein", True, BOTH, SOURCE, score_wasserstein,
        "Mean gap between the quantiles of test and of held-out normal scores, in spreads of the latter.",
    ),
    Criterion(
        "score_q90", True, BOTH, SOURCE, score_q90,
        "How far the .90 quantile of test scores lies above held-out normal scores, in their spreads.",
    ),
    Criterion(
        "score_q75", True, BOTH, SOURCE, score_q75,
        "How far the .75 quantile of test scores lies above held-out normal scores, in their spreads.",
    ),
    Criterion(
        "score_q95", True, BOTH, SOURCE, score_q95,
        "How far the .95 quantile of test scores lies above held-out normal scores, in their spreads.",
    ),
    Criterion(
        "score_exceed", True, BOTH, SOURCE, score_exceed,
        "Share of test scores above all but 5% of held-out normal scores.",
    ),
    Criterion(
        "pu_auc", True, BOTH, CONTAMINATION, pu_auc,
        "Chance that a test score exceeds a held-out normal one, which rises linearly with the true AUROC.",
    ),
    Criterion(
        "score_variance", True, BOTH, SOURCE, score_variance,
        "How much more test scores vary than held-out normal scores do.",
    ),
    Criterion(
        "score_pearson_skew", True, BOTH, SOURCE, score_pearson_skew,
        "How far the mean of test scores lies above their median, in spreads of held-out normal scores.",
    ),
    Criterion(
        "score_skewness", True, BOTH, SOURCE, score_skewness,
        "Third moment of test scores, in spreads of held-out normal scores: sensitive to few anomalies.",
    ),
    Criterion(
        "rtm", True, TEST, AUTOUAD, rtm,
        "How far the top 5% of test scores lie above the median one, relative to it.",
    ),
    Criterion(
        "score_otsu", True, TEST, SOURCE, score_otsu,
        "How well one threshold splits test scores into two groups, as a share of their variance.",
    ),
    Criterion(
        "neighbor_shift", True, NEIGHBORHOOD, SOURCE, neighbor_shift,
        "How much farther from its nearest train embeddings a test image lies than a held-out normal one.",
    ),
)  # fmt: skip
