"""The Gaussian one-class scorer: Mahalanobis distance under a Ledoit-Wolf covariance."""

from dataclasses import dataclass

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from augmentations import InputError

# Rows whose spread is below this share of their length differ by float32 rounding only.
ROUNDING = 16 * torch.finfo(torch.float32).eps


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
        """Fit to ``rows`` (n,d), on the CPU in float64; the result is float32 on the device of ``rows``.

        Raises InputError for rows that are not finite, and for too few that differ.
        """
        values = rows.detach().cpu().double()
        if not values.isfinite().all():
            raise InputError("features", "must be finite", "train with a smaller learning rate")
        mean = values.mean(0)
        if (values - mean).norm() <= ROUNDING * values.norm():
            raise _too_alike(len(rows), "are all the same")
        covariance, _ = ledoit_wolf(values.numpy())
        # precision = whitening @ whitening.T, and covariance = root @ root.T
        root, failed = torch.linalg.cholesky_ex(torch.as_tensor(covariance))
        pivots = root.diagonal().square()
        if failed or pivots.min() <= len(root) * torch.finfo(root.dtype).eps * pivots.max():
            raise _too_alike(len(rows), "vary in too few directions")
        identity = torch.eye(len(root), dtype=root.dtype)
        whitening = torch.linalg.solve_triangular(root, identity, upper=False).mT.contiguous()
        return cls(mean.float().to(rows.device), whitening.float().to(rows.device))

    def score(self, rows: Tensor) -> Tensor:
        """The Mahalanobis distance of each of ``rows`` (...,d), as (...)."""
        return torch.linalg.vector_norm((rows - self.mean) @ self.whitening, dim=-1)

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "whitening": self.whitening}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "Gaussian":
        return cls(state["mean"], state["whitening"])


def _too_alike(n: int, how: str) -> InputError:
    remedy = "give more images, images that differ, or another augmentation: the encoder may have learned nothing"
    return InputError(f"the features of {n} locations or images", f"{how} to fit a Gaussian", remedy)
