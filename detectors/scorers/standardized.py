"""A scorer that sees every feature in multiples of its own spread."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from detectors.scorers.base import Scorer
from detectors.scorers.gaussian import LEAST_VARIANCE, ROUNDING


class Standardized(Scorer):
    """Another scorer, on rows whose features have mean 0 and standard deviation 1 on those fitted to.

    Levels of an encoder, and encoders among themselves, differ in scale; a shrunk covariance and a distance between
    rows would see the loudest only. A feature that hardly varies is divided by a share of the average spread.
    """

    name = "standardized"

    center: Tensor
    scale: Tensor

    def __init__(self, scorer: Scorer) -> None:
        super().__init__(**scorer.settings)
        self.scorer = scorer

    def fit(self, rows: Tensor) -> Self:
        """Fit to ``rows`` (n,...,d), and the other scorer to what they are in multiples of their spread.

        Raises InputError as the other scorer does.
        """
        center, scale = spread(rows.detach())
        self.remember(center=center, scale=scale)
        self.scorer.fit((rows.detach() - center) / scale)
        return self

    def forward(self, rows: Tensor) -> Tensor:
        return self.scorer((rows - self.center) / self.scale)

    def log_likelihood(self, rows: Tensor) -> float | None:
        inner = self.scorer.log_likelihood((rows - self.center) / self.scale)
        return None if inner is None else inner - self.scale.double().log().sum().item()

    def restore(self, tensors: Mapping[str, Tensor]) -> Self:
        prefix = "scorer."
        own = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
        self.remember(center=own["center"], scale=own["scale"])
        others = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        self.scorer.restore(others)
        return self


def spread(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(d,) mean and (d,) standard deviation of rows (n,...,d), the latter nowhere far below its average.

    0 and 1 where rows differ by rounding only: nothing there may be made to look like variation.
    """
    flat = rows.flatten(0, -2)
    variance, center = torch.var_mean(flat, dim=0, correction=0)
    if variance.sum().sqrt() <= ROUNDING * (variance + center.square()).sum().sqrt():
        return torch.zeros_like(center), torch.ones_like(center)
    return center, variance.clamp(min=LEAST_VARIANCE * variance.mean()).sqrt()
