"""Pseudo-anomaly validation: held-out normal images against pseudo anomalies that the candidate was not trained on.

Higher is better. They need no test images, so they choose where there are none, and no share of anomalies or shift
among test images moves them; they cannot know what future anomalies look like.
"""

from torch import Tensor

from selector.criteria.base import Criterion, scores_of
from selector.evidence.auroc import probability_above
from selector.evidence.evidence import Evidence

NEEDS = ("validation_scores", "pseudo_scores")


def pseudo_auc(evidence: Evidence) -> Tensor:
    """AUROC of other augmentations' pseudo anomalies against normal images. Source: arXiv 2310.10461 (SWSA)."""
    return probability_above(*scores_of(evidence, NEEDS))


def npd(evidence: Evidence) -> Tensor:
    """(gap of the means)^2 / (2 (sum of the variances)), with the sign of the gap. Source: AutoUAD, as below.

    Published without the sign, which would reward a candidate that scores pseudo anomalies below normal images.
    """
    v, b = scores_of(evidence, NEEDS)
    gap = b.mean() - v.mean()
    return gap * gap.abs() / (2 * (b.var(correction=0) + v.var(correction=0)))


CRITERIA = (
    Criterion(
        "pseudo_auc", True, NEEDS, "arXiv 2310.10461 (SWSA)", pseudo_auc,
        "Chance that a pseudo anomaly of another augmentation scores above a held-out normal image.",
    ),
    Criterion(
        "npd", True, NEEDS, "Dai & Fan, AutoUAD, ICLR 2025", npd,
        "Gap between the mean scores of held-out normal images and of other augmentations' pseudo anomalies.",
    ),
)  # fmt: skip
