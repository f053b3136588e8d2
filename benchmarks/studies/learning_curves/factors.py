"""The factors of learning curves: how many images a selection sees, how many are anomalous, how normal images shift.

A factor draws the images of one selection from those that were scored. The same source at another setting draws as
many of the same images as possible (fewer are a subset of more), which reduces the variance along a curve.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from benchmarks.evaluation.ensembles import rank_average
from benchmarks.evaluation.stored_zoo import StoredZoo
from benchmarks.tasks.view import View

RATIO = 0.2  # of anomalies, where the ratio is not the factor
VALIDATION = (5, 10, 20, 40, 80)
TEST = (5, 10, 20, 40, 80, 160, 320)
ANOMALY_RATIOS = (0.0, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5)
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
Draw = Callable[[StoredZoo, View, float, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Factor:
    """One curve.

    Args:
        name: of the curve.
        settings: of the factor.
        draw: draws the validation images (n,) and the rows of the test images (k,) of one selection at a setting.
        counted: which of the two the setting counts: 0, 1, or None.
    """

    name: str
    settings: tuple[float, ...]
    draw: Draw
    counted: int | None = None


def _validation(zoo: StoredZoo, view: View, setting: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
    test = view.draw(RATIO, source)
    return torch.randperm(_n_validation(zoo), generator=source)[: int(setting)], test


def _test(zoo: StoredZoo, view: View, setting: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.arange(_n_validation(zoo)), view.draw(RATIO, source, int(setting))


def _ratio(zoo: StoredZoo, view: View, setting: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.arange(_n_validation(zoo)), view.draw(setting, source)


def _shift(zoo: StoredZoo, view: View, setting: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Bootstraps in which a normal test image is drawn the more often, and a validation image the more rarely, the
    more anomalous its scores are: by all candidates, and by some of them more than by the others."""
    rows = view.draw(RATIO, source)
    anomalous = rows[torch.isin(rows, view.rows[view.labels == 1])]
    mean, deviation = _abnormality(zoo, view)
    sign = 2 * torch.randint(2, (), generator=source) - 1  # which candidates those are
    validation, normal = (mean + sign * deviation).split([_n_validation(zoo), int((view.labels == 0).sum())])
    drawn_validation = _tilted(validation.argsort(descending=True, stable=True), _n_validation(zoo), setting, source)
    drawn_normal = _tilted(normal.argsort(stable=True), len(rows) - len(anomalous), setting, source)
    return drawn_validation, torch.cat([view.rows[view.labels == 0][drawn_normal], anomalous])


def _n_validation(zoo: StoredZoo) -> int:
    return len(zoo.scores["validation"])


@lru_cache(maxsize=1)
def _abnormality(zoo: StoredZoo, view: View) -> Tensor:
    """Two properties (2,n) of the validation and the normal test images, each of variance 1: the mean rank over
    candidates, and the first principal component of the deviations of single candidates from it."""
    parts = ("validation", slice(None)), ("test", view.rows[view.labels == 0])
    scores = torch.cat([torch.tensor(zoo.scores[part].to_numpy())[rows] for part, rows in parts])
    ranks = torch.stack([rank_average(column[:, None]).double() for column in scores.T], 1)
    mean = ranks.mean(1)
    deviations = ranks - mean[:, None]
    component = torch.linalg.svd(deviations - deviations.mean(0), full_matrices=False).U[:, 0]
    component = component * component[component.abs().argmax()].sign()
    # Rounded, so that the order of candidates, in which sums differ, breaks no tie.
    return torch.stack([(values - values.mean()) / values.std() for values in (mean, component)]).round(decimals=6)


def _tilted(images: Tensor, count: int, strength: float, source: torch.Generator) -> Tensor:
    """``count`` of the images (n,), with replacement: the last exp(strength) times as likely as the first."""
    u = torch.rand(count, dtype=torch.float64, generator=source)
    # The inverse of the distribution function of a density that rises as exp(strength x) over [0, 1].
    place = u.mul(math.expm1(strength)).log1p() / strength if strength else u
    return images[(place * len(images)).long()]


FACTORS = {
    factor.name: factor
    for factor in (
        Factor("validation", VALIDATION, _validation, counted=0),
        Factor("test", TEST, _test, counted=1),
        Factor("ratio", ANOMALY_RATIOS, _ratio),
        Factor("shift", STRENGTHS, _shift),
    )
}
