"""One-class support vector machines: fitted by scikit-learn, scored as one product."""

from typing import Any, Self

import torch
from sklearn.svm import OneClassSVM
from torch import Tensor

from augmentations import InputError
from augmentations.errors import whole_number
from detectors.scorers.base import Scorer
from detectors.scorers.kde import GAMMA_FACTOR, LIMIT, kernel_width, require_kernel
from detectors.scorers.rows import checked, in_blocks, squared_distances, subset, unit

NU = 0.5  # scikit-learn's own, as Sohn et al. leave it
MOST_ITERATIONS = 1_000_000  # of the solver: on rows of extreme length it would not end


class OCSVM(Scorer):
    """A one-class support vector machine with a Gaussian kernel, on L2-normalised rows.

    The score is scikit-learn's ``-score_samples``. Settings: ``nu``, the share of normal rows that may lie outside;
    ``gamma_factor`` (see ``kernel_width``); and ``limit``, the number of rows that it is fitted to at most, drawn at
    random. Source: Schölkopf et al., 2001; Sohn et al., ICLR 2021, for the kernel.
    """

    name = "ocsvm"

    support: Tensor
    weight: Tensor
    gamma: Tensor

    def __init__(self, nu: float = NU, gamma_factor: float = GAMMA_FACTOR, limit: int = LIMIT) -> None:
        require_nu(nu)
        require_kernel(gamma_factor, limit)
        super().__init__(nu=float(nu), gamma_factor=float(gamma_factor), limit=limit)

    def fit(self, rows: Tensor) -> Self:
        normalised = unit(checked(rows, 2, self.name))
        gamma = kernel_width(normalised, self.settings["gamma_factor"])
        known = checked(subset(normalised, self.settings["limit"]), 2, self.name)  # rows may differ in length alone
        machine = OneClassSVM(kernel="rbf", gamma=gamma.item(), nu=self.settings["nu"])
        support, weight = _solved(machine, known)
        return self.remember(support=support, weight=weight, gamma=gamma)

    def forward(self, rows: Tensor) -> Tensor:
        return in_blocks(self._score, rows, len(self.support))

    def _score(self, rows: Tensor) -> Tensor:
        return -((-self.gamma * squared_distances(unit(rows), self.support)).exp() @ self.weight)


class LinearOCSVM(Scorer):
    """A one-class support vector machine without a kernel, on rows as they are.

    The score is scikit-learn's ``-score_samples``: minus the row's part along one direction, so that what is far from
    0 on the side of normal rows is the more normal. Settings as in ``OCSVM``. Fragile behind a deep head.
    Source: Schölkopf et al., 2001; Sohn et al., ICLR 2021, for rows that are not normalised.
    """

    name = "ocsvm_linear"
    normalised = False

    weight: Tensor

    def __init__(self, nu: float = NU, limit: int = LIMIT) -> None:
        require_nu(nu)
        whole_number("limit", limit, 2, f"try {LIMIT}")
        super().__init__(nu=float(nu), limit=limit)

    def fit(self, rows: Tensor) -> Self:
        known = subset(checked(rows, 2, self.name), self.settings["limit"])
        machine = OneClassSVM(kernel="linear", nu=self.settings["nu"], max_iter=MOST_ITERATIONS)
        support, weight = _solved(machine, known)
        return self.remember(weight=(weight.double() @ support.double()).float())

    def forward(self, rows: Tensor) -> Tensor:
        return -(rows @ self.weight)


def require_nu(nu: Any) -> None:
    """Raise InputError unless ``nu`` is a share."""
    if not isinstance(nu, int | float) or isinstance(nu, bool) or not 0 < nu <= 1:
        raise InputError(f"nu={nu!r}", "must be a share in (0, 1]", f"try {NU}")


def _solved(machine: OneClassSVM, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The support vectors and their weights, in float32 on the device of ``rows``."""
    machine.fit(rows.cpu().double().numpy())
    return (
        torch.as_tensor(machine.support_vectors_).float().to(rows.device),
        torch.as_tensor(machine.dual_coef_[0]).float().to(rows.device),
    )
