"""The kernel density estimate as a one-class scorer, and the rule for the width of its kernel."""

from typing import Any, Self

import torch
from torch import Tensor

from augmentations import InputError
from augmentations.errors import whole_number
from detectors.scorers.base import Scorer
from detectors.scorers.rows import checked, in_blocks, squared_distances, subset, unit

GAMMA_FACTOR = 10.0  # Sohn et al., ICLR 2021: ten times scikit-learn's gamma="scale" of the normalised features
LIMIT = 4_000  # rows that are kept: each row that is scored is compared to all of them


def kernel_width(rows: Tensor, factor: float) -> Tensor:
    """gamma of the kernel exp(-gamma |a - b|^2) for unit rows (n,d): factor / (d Var), over all n x d values.

    Source: Sohn et al., ICLR 2021, for KDE and OC-SVM.
    """
    return factor / (rows.shape[1] * rows.double().var(correction=0)).float()


def require_kernel(gamma_factor: Any, limit: Any) -> None:
    """Check the settings that scorers with a kernel share. Raises InputError."""
    is_number = isinstance(gamma_factor, int | float) and not isinstance(gamma_factor, bool)
    if not (is_number and 0 < gamma_factor < float("inf")):
        raise InputError(f"gamma_factor={gamma_factor!r}", "must be a number above 0", f"try {GAMMA_FACTOR:g}")
    whole_number("limit", limit, 2, f"try {LIMIT}")


class KDE(Scorer):
    """The negative logarithm of a kernel density of L2-normalised rows, divided by gamma.

    -1/gamma log sum_i exp(-gamma |row - row_i|^2), which is scikit-learn's ``KernelDensity`` up to a constant and
    that factor. Settings: ``gamma_factor`` (see ``kernel_width``; results are sensitive to it), and ``limit``, the
    number of rows that are kept at most, drawn at random. Source: Sohn et al., ICLR 2021.
    """

    name = "kde"

    known: Tensor
    gamma: Tensor

    def __init__(self, gamma_factor: float = GAMMA_FACTOR, limit: int = LIMIT) -> None:
        require_kernel(gamma_factor, limit)
        super().__init__(gamma_factor=float(gamma_factor), limit=limit)

    def fit(self, rows: Tensor) -> Self:
        normalised = unit(checked(rows, 2, self.name))
        known = checked(subset(normalised, self.settings["limit"]), 2, self.name)  # rows may differ in length alone
        return self.remember(known=known, gamma=kernel_width(normalised, self.settings["gamma_factor"]))

    def forward(self, rows: Tensor) -> Tensor:
        return in_blocks(self._score, rows, len(self.known))

    def _score(self, rows: Tensor) -> Tensor:
        return -torch.logsumexp(-self.gamma * squared_distances(unit(rows), self.known), 1) / self.gamma
