"""Criteria that compare embeddings of train images X, pseudo anomalies Y and unlabeled test images Z.

Published for L2-normalised embeddings, and computed here on embeddings as they come. Moments are population
moments (n in the denominator). d(A, B) is the mean Euclidean distance over all pairs, halved; only
``negative_std`` takes distances that are not halved, as the released code of DSV does. All are
differentiable in X, Y and Z. Of more than MOST_ROWS rows of a set, distances and kernels are those between as many
random ones of them (``standard_error``); means, projections and what is made of these alone take all.

Known weaknesses: they compare candidates well within one augmentation and poorly across augmentations; with
the halved distance the clamp of the separability bites at half its true bound, so that DSV often orders
candidates as the discordance does; DSV also moves with the size of Y (use |Y| = |X|) and favours
augmentations that overshoot; ``alignment`` does not punish an encoder that mixes all sets.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from selector.criteria.base import Criterion, OfImages
from selector.evidence.evidence import Evidence
from selector.evidence.pairwise import SUBSAMPLES, Kind, Pairwise, Rows, safe_sqrt

SETS: tuple[Rows, ...] = ("train", "augmented", "test")
NEEDS: tuple[str, ...] = SETS
DSV = "Yoo, Zhao, Zhao & Akoglu, ECML PKDD 2023"
ST_SSAD = "Yoo, Zhao & Akoglu, ST-SSAD, KDD 2025"
SEPARABILITY_BOUND = 0.5  # published: projections within [0, D] have a standard deviation of at most D/2
DISCORDANCE_OFFSET = 1e-8  # published: keeps L_d finite where X and Y coincide


def _pooled(pairwise: Pairwise, x_value: Tensor, y_value: Tensor) -> Tensor:
    """Mean over X u Y from the means over X and over Y."""
    n, m = pairwise.size("train"), pairwise.size("augmented")
    return (n * x_value + m * y_value) / (n + m)


def _mean_to_test(pairwise: Pairwise, kind: Kind) -> Tensor:
    """Mean of a distance or kernel over all pairs between X u Y and Z."""
    return _pooled(pairwise, pairwise.mean(kind, "train", "test"), pairwise.mean(kind, "augmented", "test"))


def mean_distance(evidence: Evidence) -> Tensor:
    """d(X u Y, Z). Source: DSV, baseline "Base"."""
    return _mean_to_test(evidence.pairwise, "distance") / 2


def negative_std(evidence: Evidence) -> Tensor:
    """-std of the (not halved) distances of all pairs between X u Y and Z. Source: DSV, baseline "STD"."""
    pairwise = evidence.pairwise
    mean_square = _pooled(
        pairwise,
        pairwise.mean_squared_distance("train", "test"),
        pairwise.mean_squared_distance("augmented", "test"),
    )
    return -safe_sqrt(mean_square - _mean_to_test(pairwise, "distance").square())


def mmd_linear(evidence: Evidence) -> Tensor:
    """|mean(X u Y) - mean(Z)|^2. Source: DSV, baseline "MMD" (biased, squared)."""
    pairwise = evidence.pairwise
    pooled = _pooled(pairwise, pairwise.centre("train"), pairwise.centre("augmented"))
    return (pooled - pairwise.centre("test")).square().sum()


def _mmd(evidence: Evidence, kernel: Kind) -> Tensor:
    """mean k(W, W) + mean k(Z, Z) - 2 mean k(W, Z) with W = X u Y, at least 0."""
    pairwise = evidence.pairwise
    cross = pairwise.mean(kernel, "train", "augmented")
    within = _pooled(
        pairwise,
        _pooled(pairwise, pairwise.mean(kernel, "train", "train"), cross),
        _pooled(pairwise, cross, pairwise.mean(kernel, "augmented", "augmented")),
    )
    return (within + pairwise.mean(kernel, "test", "test") - 2 * _mean_to_test(pairwise, kernel)).clamp_min(0)


def mmd_rbf(evidence: Evidence) -> Tensor:
    """Squared MMD with exp(-|a-b|^2 / dim). Source: DSV, "MMD"; its released code omits the square."""
    return _mmd(evidence, "rbf")


def mmd_poly(evidence: Evidence) -> Tensor:
    """Squared MMD with (<a,b> / dim + 1)^3. Source: DSV, "MMD"."""
    return _mmd(evidence, "poly")


def discordance(evidence: Evidence) -> Tensor:
    """L_d = d(X u Y, Z) / (d(X, Y) + 1e-8). Source: DSV, discordance surrogate."""
    return mean_distance(evidence) / (evidence.pairwise.mean("distance", "train", "augmented") / 2 + DISCORDANCE_OFFSET)


def separability(evidence: Evidence, clamp: float = SEPARABILITY_BOUND) -> Tensor:
    """L_s = min(clamp, std of <z - mean X, u_y> over all (z, y) / d(X, Y)), u_y the unit ray mean X to y.

    ``clamp=math.inf`` leaves it unclamped. Source: DSV, separability surrogate.
    """
    pairwise = evidence.pairwise

    def spread() -> Tensor:
        origin = pairwise.centre("train")
        offset = pairwise.centre("test") - origin
        along_offset, squares = [], []
        for piece in pairwise.chunks("augmented"):
            rays = _unit_rays(piece, origin)
            along_offset.append(rays @ offset)
            squares.append(len(rays) * pairwise.mean_squared_projection("test", rays))
        # The variance of the products in two parts that cannot cancel: that of the rays, and that of the test rows.
        return safe_sqrt(
            torch.cat(along_offset).var(correction=0) + torch.stack(squares).sum() / pairwise.size("augmented")
        )

    std = pairwise.cached(("spread", "train", "augmented", "test"), spread)
    return (std / (pairwise.mean("distance", "train", "augmented") / 2)).clamp_max(clamp)


def negative_separability_unclamped(evidence: Evidence) -> Tensor:
    """-L_s without the clamp. Source: DSV, ablation."""
    return -separability(evidence, clamp=math.inf)


def dsv(evidence: Evidence, clamp: float = SEPARABILITY_BOUND) -> Tensor:
    """L_d - L_s / L_d, L_s clamped as in ``separability``. Source: DSV, its validation loss."""
    return _dsv(discordance(evidence), separability(evidence, clamp))


def _dsv(overlap: Tensor, separated: Tensor) -> Tensor:
    return overlap - separated / overlap


@torch.no_grad()
def dsv_of_images(evidence: Evidence) -> OfImages:
    """DSV as a function of which test images count (k, bool): means over them of three numbers that each image has.

    They are the mean distance of z to X u Y, and over y the mean of <z - mean X, u_y> and of its square.
    """
    pairwise = evidence.pairwise
    train, augmented = (pairwise.mean_distances("test", rows) for rows in ("train", "augmented"))
    to_both = _pooled(pairwise, train, augmented) / 2
    origin, m = pairwise.centre("train"), pairwise.size("augmented")
    ray, scatter = torch.zeros_like(origin), origin.new_zeros(len(origin), len(origin))
    for piece in pairwise.chunks("augmented"):
        rays = _unit_rays(piece, origin)
        ray, scatter = ray + rays.sum(0) / m, scatter + rays.T @ rays / m
    along, squares = [], []
    for piece in pairwise.chunks("test"):
        offset = piece - origin
        along.append(offset @ ray)
        squares.append(((offset @ scatter) * offset).sum(1))
    mean, square = torch.cat(along), torch.cat(squares)
    gap = pairwise.mean("distance", "train", "augmented") / 2

    def value(counts: Tensor) -> Tensor:
        overlap = to_both[counts].nanmean() / (gap + DISCORDANCE_OFFSET)
        std = safe_sqrt(square[counts].mean() - mean[counts].mean().square())
        return _dsv(overlap, (std / gap).clamp_max(SEPARABILITY_BOUND))

    return value


def _unit_rays(rows: Tensor, origin: Tensor) -> Tensor:
    rays = rows - origin
    return rays / torch.linalg.vector_norm(rays, dim=1, keepdim=True)


def alignment(evidence: Evidence) -> Tensor:
    """Mean over z of (|z - mean X| + |z - mean Y|) / 2, after scaling the pool.

    The pool X u Y u Z of N rows is centred and multiplied by sqrt(N) / its Frobenius norm.
    Source: ST-SSAD, its validation loss.
    """
    pairwise = evidence.pairwise
    rows = sum(pairwise.size(name) for name in SETS)
    mean = torch.stack([pairwise.size(name) * pairwise.centre(name) for name in SETS]).sum(0) / rows
    squares = torch.stack([pairwise.squares(name).sum() for name in SETS]).sum()
    scale = torch.sqrt(rows / (squares - rows * mean.square().sum()))

    def to_mean(name: Rows) -> Tensor:
        return pairwise.distances_to(pairwise.centre(name), "test").mean()

    to_train = pairwise.cached(("to mean", "train", "test"), lambda: to_mean("train"))
    return scale * (to_train + to_mean("augmented")) / 2


@torch.no_grad()
def standard_errors(evidence: Evidence, criteria: Sequence[Criterion]) -> dict[str, float]:
    """What the sampling of rows adds to the values of criteria: standard errors, by name; 0 where all pairs count.

    By random groups: the standard deviation of the values from each of the parts of the sampled rows, over the root of
    their number, with the correction for a finite population. Too large, if anything, for a squared MMD near 0, which
    falls faster than the root of the rows. Source: Wolter, Introduction to Variance Estimation, 2007, chapter 2.
    """
    if not evidence.has(NEEDS) or not evidence.pairwise.is_sampled:
        return dict.fromkeys((criterion.name for criterion in criteria), 0.0)
    parts = [evidence.with_pairwise(part) for part in evidence.pairwise.parts()]
    scale = math.sqrt(evidence.pairwise.share_left_out / SUBSAMPLES)
    return {
        criterion.name: scale * float(torch.stack([criterion(part) for part in parts]).std())
        if criterion in CRITERIA
        else 0.0
        for criterion in criteria
    }


# Kernels first: their pass over the pairs leaves the distances for those that follow.
CRITERIA = (
    Criterion(
        "mmd_linear", False, NEEDS, DSV, mmd_linear,
        "Squared distance of the mean test embedding to that of train and pseudo-anomalous ones together.",
    ),
    Criterion(
        "mmd_rbf", False, NEEDS, DSV, mmd_rbf,
        "How far test embeddings are from train and pseudo-anomalous ones together, by a Gaussian kernel.",
    ),
    Criterion(
        "mmd_poly", False, NEEDS, DSV, mmd_poly,
        "How far test embeddings are from train and pseudo-anomalous ones together, by a cubic kernel.",
    ),
    Criterion(
        "mean_distance", False, NEEDS, DSV, mean_distance,
        "Mean distance between test embeddings and train or pseudo-anomalous ones, halved.",
    ),
    Criterion(
        "negative_std", False, NEEDS, DSV, negative_std,
        "Minus the spread of distances between test embeddings and train or pseudo-anomalous ones.",
    ),
    Criterion(
        "discordance", False, NEEDS, DSV, discordance,
        "How far test embeddings lie from train and pseudo-anomalous ones, relative to the gap of these two.",
    ),
    Criterion(
        "separability_clamped", True, NEEDS, DSV, separability,
        "Spread of test embeddings along the directions from train images to pseudo anomalies, at most 1/2.",
    ),
    Criterion(
        "negative_separability_unclamped", False, NEEDS, DSV, negative_separability_unclamped,
        "Minus the spread of test embeddings along the directions from train images to pseudo anomalies.",
    ),
    Criterion(
        "dsv", False, NEEDS, DSV, dsv,
        "Low where test embeddings lie, well spread, between train images and pseudo anomalies.",
        of_images=dsv_of_images,
    ),
    Criterion(
        "alignment", False, NEEDS, ST_SSAD, alignment,
        "Mean distance of test embeddings to the train and the pseudo-anomalous mean, at a common scale.",
    ),
)  # fmt: skip
