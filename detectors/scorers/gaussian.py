"""The Gaussian one-class scorer: Mahalanobis distance under a Ledoit-Wolf covariance, shared or by location."""

from typing import Self

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from augmentations import InputError
from detectors.scorers.base import Scorer
from detectors.scorers.rows import ROUNDING

# Where hardly anything ever varies, as on a bare background, everything would be infinitely far: the variance of
# a location is at least this share of the average location's.
LEAST_VARIANCE = 1e-3
LOCATION_BLOCK = 2**22  # float64 values that the fit of Gaussians by location works on at once


class Gaussian(Scorer):
    """A Gaussian fitted to the rows that normal images give; the distance to it is the anomaly score.

    mean (d,) and whitening (d,d), so that the squared norm of (row - mean) @ whitening is the squared Mahalanobis
    distance. Shrunk as Ledoit and Wolf (2004) do: with fewer rows than 5 d the plain covariance is too noisy
    (Li et al., CVPR 2021, fit the same density to CutPaste features).
    """

    name = "gaussian"
    score_is_distance = True

    mean: Tensor
    whitening: Tensor

    def fit(self, rows: Tensor) -> Self:
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
        return self.remember(mean=mean.float().to(rows.device), whitening=whitening.float().to(rows.device))

    def forward(self, rows: Tensor) -> Tensor:
        """The Mahalanobis distance of each of ``rows`` (...,d), as (...)."""
        return torch.linalg.vector_norm((rows - self.mean) @ self.whitening, dim=-1)

    def log_likelihood(self, rows: Tensor) -> float:
        return _log_likelihood(self.whitening, self(rows))


class GaussianPerLocation(Scorer):
    """One Gaussian for each location, as Li et al. (CVPR 2021, 4.2) fit them to images of aligned objects.

    mean (h,w,d) and whitening (h,w,d,d), each location as in ``Gaussian``.
    """

    name = "gaussian_per_location"
    score_is_distance = True

    mean: Tensor
    whitening: Tensor

    def fit(self, rows: Tensor) -> Self:
        """Fit to ``rows`` (n,h,w,d), on the CPU in float64, a block of locations at a time; the result is float32.

        Raises InputError for rows that are not finite, and for too few that differ.
        """
        n, height, width, d = rows.shape
        values = rows.detach().cpu().reshape(n, height * width, d).movedim(1, 0)  # a view: (locations, n, d)
        blocks = values.split(max(1, LOCATION_BLOCK // (d * max(n, d))))
        variances = torch.cat([block.double().var(1, correction=0).mean(1) for block in blocks])
        if not variances.isfinite().all():
            raise InputError("features", "must be finite", "train with a smaller learning rate")
        typical = variances.mean()
        if typical <= ROUNDING**2 * values.square().mean():
            raise _too_alike(n * height * width, "are all the same, location by location,")
        identity = torch.eye(d, dtype=torch.float64)
        means, whitenings = [], []
        for block, variance in zip(blocks, variances.split([len(block) for block in blocks]), strict=True):
            covariances = ledoit_wolf_covariances(block.double())
            missing = (LEAST_VARIANCE * typical - variance).clamp(min=0)
            roots, failed = torch.linalg.cholesky_ex(covariances + missing[:, None, None] * identity)
            pivots = roots.diagonal(dim1=1, dim2=2).square()
            if failed.any() or (pivots.amin(1) <= d * torch.finfo(roots.dtype).eps * pivots.amax(1)).any():
                raise _too_alike(n * height * width, "vary in too few directions")
            means.append(block.double().mean(1).float())
            whitenings.append(torch.linalg.solve_triangular(roots, identity, upper=False).mT.float())
        mean, whitening = torch.cat(means).view(height, width, d), torch.cat(whitenings).view(height, width, d, d)
        return self.remember(mean=mean.contiguous().to(rows.device), whitening=whitening.contiguous().to(rows.device))

    def forward(self, rows: Tensor) -> Tensor:
        """The Mahalanobis distance of ``rows`` (n,h,w,d) to the Gaussian of their location, as (n,h,w)."""
        centred = (rows - self.mean).flatten(1, 2).movedim(1, 0)
        distances = torch.linalg.vector_norm(centred @ self.whitening.flatten(0, 1), dim=-1)
        return distances.mT.reshape(rows.shape[:-1])

    def log_likelihood(self, rows: Tensor) -> float:
        return _log_likelihood(self.whitening, self(rows))


Gaussian.per_location = GaussianPerLocation


def _log_likelihood(whitening: Tensor, distances: Tensor) -> float:
    """The mean over rows and locations, without the constant. The whitening is triangular."""
    log_determinant = whitening.double().diagonal(dim1=-2, dim2=-1).log().sum(-1).mean()
    return (log_determinant - distances.double().square().mean() / 2).item()


def ledoit_wolf_covariances(rows: Tensor) -> Tensor:
    """(b,n,d) rows to the shrunk covariance of each group, (b,d,d).

    Ledoit and Wolf (2004), section 3.3, as ``sklearn.covariance.ledoit_wolf`` computes it, for many groups at once.
    """
    n, d = rows.shape[1:]
    centred = rows - rows.mean(1, keepdim=True)
    empirical = centred.mT @ centred / n
    energy = empirical.square().sum((1, 2))
    scale = empirical.diagonal(dim1=1, dim2=2).mean(1)
    spread = energy - d * scale**2  # of the eigenvalues around their mean
    # Of the empirical covariance around the true one; below 0 by rounding only.
    noise = (((centred.square().sum(2) ** 2).mean(1) - energy) / n).clamp(min=0)
    share = torch.where(spread > 0, torch.minimum(noise, spread) / spread, 0)[:, None, None]
    return (1 - share) * empirical + share * scale[:, None, None] * torch.eye(d, dtype=rows.dtype)


def _too_alike(n: int, how: str) -> InputError:
    remedy = "give more images, images that differ, or another augmentation: the encoder may have learned nothing"
    return InputError(f"the features of {n} locations or images", f"{how} to fit a Gaussian", remedy)
