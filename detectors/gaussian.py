"""The Gaussian one-class scorer: Mahalanobis distance under a Ledoit-Wolf covariance."""

from dataclasses import dataclass

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian fitted to the rows that normal images give; the distance to it is the anomaly score.

    mean (d,) and whitening (d,d), so that the squared norm of (row - mean) @ whitening is the squared Mahalanobis
    distance. Shrunk as Ledoit and Wolf (2004) do: with fewer rows than 5 d the plain covariance is too noisy
    (Li et al., CVPR 2021, fit the same density to CutPaste features).
    """

    score_is_distance = True

    mean: Tensor
    whitening: Tensor

    @classmethod
    def fit(cls, rows: Tensor) -> "Gaussian":
        """Fit to ``rows`` (n,d), on the CPU in float64; the result is float32 on the device of ``rows``."""
        values = rows.detach().cpu().double().numpy()
        covariance, _ = ledoit_wolf(values)
        precision = torch.linalg.inv(torch.as_tensor(covariance))
        whitening = torch.linalg.cholesky(precision)
        mean = torch.as_tensor(values.mean(0))
        return cls(mean.float().to(rows.device), whitening.float().to(rows.device))

    def score(self, rows: Tensor) -> Tensor:
        """The Mahalanobis distance of each of ``rows`` (...,d), as (...)."""
        return torch.linalg.vector_norm((rows - self.mean) @ self.whitening, dim=-1)

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "whitening": self.whitening}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "Gaussian":
        return cls(state["mean"], state["whitening"])
