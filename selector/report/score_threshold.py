"""Scores against the threshold: what is flagged, and how far the false-alarm rate can be trusted."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import beta
from torch import Tensor

from selector.detection.conformal import Groups, n_units, p_values, validate_rate
from selector.evidence.evidence import Evidence

BINS = 36
CONFIDENCE = 0.90  # of the interval of the false-alarm rate
DECADE = 10  # ratio of the ends of an axis beyond which it is logarithmic


@dataclass(frozen=True, eq=False)
class ScoreThreshold:
    """The recommended detector's scores against its threshold.

    Attributes:
        rate: The false-alarm rate decided at.
        threshold: The score above which an image is flagged.
        n_calibration: How many calibration images there are.
        n_groups: How many groups they come in, None where each is one of its own.
        n_flagged: How many test images are flagged.
        n_test: How many test images there are.
        expected: The false-alarm rate that the calibration images give on average, at most ``rate``; ``rate`` where
            they come in groups, for which no more than the bound is known.
        between: The interval that the false-alarm rate of this one run lies in, with ``CONFIDENCE``; None where images
            come in groups: it depends on how much these differ.
        edges: The edges of the histograms' bins.
        share: One row per bin and one column per set of images: the share of the set in the bin.
        is_logarithmic: Whether the bins are evenly spaced in logarithms.
        table: One row per test image: name, score, p_value, verdict.
    """

    rate: float
    threshold: float
    n_calibration: int
    n_groups: int | None
    n_flagged: int
    n_test: int
    expected: float
    between: tuple[float, float] | None
    edges: np.ndarray
    share: pd.DataFrame
    is_logarithmic: bool
    table: pd.DataFrame


def apply_threshold(
    evidence: Evidence,
    calibration: Tensor,
    names: list[str],
    p: Tensor | None = None,
    groups: Groups | None = None,
) -> ScoreThreshold:
    """Decide on the test images at the default false-alarm rate.

    The false-alarm rate of one set of h calibration images follows Beta(l, h + 1 - l), where l - 1 of them
    lie above the threshold (Vovk, 2012, proposition 2b).

    Args:
        evidence: The detector's scores of validation, augmented validation and test images, those it has.
        calibration: Its scores (h,) of the calibration images.
        names: The names of the test images; empty without any.
        p: The p-values (k,) of the test images, where they do not follow from the calibration scores.
        groups: The groups of the calibration images, where they have some.
    """
    sets = {name: getattr(evidence, f"{name}_scores") for name in ("validation", "augmented", "test")}
    scores = {name: values for name, values in sets.items() if values is not None}
    test = scores.get("test", calibration[:0])
    p = p_values(calibration, test, groups) if p is None else p
    h = len(calibration)
    rate = validate_rate(None, n_units(h, groups))
    threshold = calibration[p_values(calibration, calibration, groups) > rate].max().item()
    above = int((calibration > threshold).sum())
    flagged = (p <= rate).numpy()
    edges, logarithmic = _edges(np.concatenate([s.double().numpy() for s in scores.values()]), threshold)
    share = {name: np.histogram(s.double().numpy(), edges)[0] / len(s) for name, s in scores.items()}
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    low, high = (float(beta.ppf(tail, above + 1, h - above)) for tail in tails)
    are_grouped = groups is not None
    verdicts = np.where(flagged, "anomaly", "normal")
    rows = {"name": names, "score": test.numpy(), "p_value": p.numpy(), "verdict": verdicts}
    return ScoreThreshold(
        rate=rate,
        threshold=threshold,
        n_calibration=h,
        n_groups=n_units(h, groups) if are_grouped else None,
        n_flagged=int(flagged.sum()),
        n_test=len(flagged),
        expected=rate if are_grouped else (above + 1) / (h + 1),
        between=None if are_grouped else (low, high),
        edges=edges,
        share=pd.DataFrame(share),
        is_logarithmic=logarithmic,
        table=pd.DataFrame(rows),
    )


def _edges(scores: np.ndarray, threshold: float) -> tuple[np.ndarray, bool]:
    """The edges of common bins, and whether they are evenly spaced in logarithms: where all scores are positive and
    span more than a decade."""
    low, high = min(scores.min(), threshold), max(scores.max(), threshold)
    if low > 0 and high / low > DECADE:
        edges = np.geomspace(low, high, BINS + 1)
        edges[[0, -1]] = low, high  # rounding must not leave the extremes outside
        return edges, True
    if high == low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1), False
