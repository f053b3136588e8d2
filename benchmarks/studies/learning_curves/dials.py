"""What the curves turn: how many images a selection sees, how many of them are anomalous, and how normals shift.

A dial draws one selection's images from those that were scored. The same source at another setting draws as nearly the
same images as it can (fewer are some of more), so that a curve is not roughened by chance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from benchmarks.evaluation.ensembles import rank_average
from benchmarks.evaluation.evaluate import Judged
from benchmarks.tasks.view import View

RATIO = 0.2  # of anomalies, where the ratio is not what is turned
VALIDATION = (5, 10, 20, 40, 80)
TEST = (5, 10, 20, 40, 80, 160, 320)
RATIOS = (0.0, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5)
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
Draw = Callable[[Judged, View, float, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Dial:
    """One curve: its settings, and what draws the validation images (n,) and the rows of the test images (k,) of one
    selection at a setting. counted: 0 or 1 where the setting is the number of the one or the other."""

    name: str
    settings: tuple[float, ...]
    draw: Draw
    counted: int | None = None


def _validation(zoo: Judged, view: View, setting: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
    test = view.draw(RATIO, source)
    return torch.randperm(_held_out(zoo), generator=source)[: int(setting)], test


def _test(zoo: Judged, view: View, setting: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.arange(_held_out(zoo)), view.draw(RATIO, source, int(setting))


def _ratio(zoo: Judged, view: View, setting: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.arange(_held_out(zoo)), view.draw(setting, source)


def _shift(zoo: Judged, view: View, setting: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Bootstraps in which a normal test image is drawn the more often, and a validation image the more rarely, the
    more anomalous it seems: to all candidates, and to some of them more than to the others."""
    rows = view.draw(RATIO, source)
    anomalous = rows[torch.isin(rows, view.rows[view.labels == 1])]
    to_all, to_some = _oddness(zoo, view)
    sign = 2 * torch.randint(2, (), generator=source) - 1  # which candidates those are
    validation, normal = (to_all + sign * to_some).split([_held_out(zoo), int((view.labels == 0).sum())])
    seen = _tilted(validation.argsort(descending=True, stable=True), _held_out(zoo), setting, source)
    met = _tilted(normal.argsort(stable=True), len(rows) - len(anomalous), setting, source)
    return seen, torch.cat([view.rows[view.labels == 0][met], anomalous])


def _held_out(zoo: Judged) -> int:
    return len(zoo.scores["validation"])


@lru_cache(maxsize=1)
def _oddness(zoo: Judged, view: View) -> Tensor:
    """How anomalous the validation and the normal test images (n,) seem to the mean candidate, and how much more to
    some than to others, along the first principal component of what is left; (2,n), each of variance 1."""
    parts = ("validation", slice(None)), ("test", view.rows[view.labels == 0])
    scores = torch.cat([torch.tensor(zoo.scores[part].to_numpy())[rows] for part, rows in parts])
    ranks = torch.stack([rank_average(column[:, None]).double() for column in scores.T], 1)
    to_all = ranks.mean(1)
    apart = ranks - to_all[:, None]
    to_some = torch.linalg.svd(apart - apart.mean(0), full_matrices=False).U[:, 0]
    to_some = to_some * to_some[to_some.abs().argmax()].sign()
    # Rounded, so that the order of candidates, in which sums differ, breaks no tie.
    return torch.stack([(odd - odd.mean()) / odd.std() for odd in (to_all, to_some)]).round(decimals=6)


def _tilted(images: Tensor, count: int, strength: float, source: torch.Generator) -> Tensor:
    """So many of the images (n,), with replacement: the last exp(strength) times as likely as the first."""
    u = torch.rand(count, dtype=torch.float64, generator=source)
    # The inverse of the distribution function of a density that rises as exp(strength x) over [0, 1].
    place = u.mul(math.expm1(strength)).log1p() / strength if strength else u
    return images[(place * len(images)).long()]


DIALS = {
    dial.name: dial
    for dial in (
        Dial("validation", VALIDATION, _validation, counted=0),
        Dial("test", TEST, _test, counted=1),
        Dial("ratio", RATIOS, _ratio),
        Dial("shift", STRENGTHS, _shift),
    )
}
