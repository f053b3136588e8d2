"""Means over all pairs of rows of two sets, in float64, without ever holding all pairs."""

from collections.abc import Callable, Hashable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Rows = Literal["train", "augmented", "test"]
Kind = Literal["distance", "rbf", "poly"]
KERNELS: tuple[Kind, ...] = ("rbf", "poly")
PAIRS_AT_ONCE = 2**19  # 4 MB a temporary, the fastest measured: 2^22 takes 1.6 times as long, 2^17 1.2 times
Kept = TypeVar("Kept")


def precise(tensor: Tensor) -> Tensor:
    """The tensor in float64, on the CPU where its device has no float64 (mps)."""
    if tensor.device.type == "mps":
        tensor = tensor.cpu()
    return tensor.to(torch.float64)


def root(square: Tensor) -> Tensor:
    """Square root with gradient 0 instead of nan where rounding leaves a square at or below 0."""
    return square.clamp_min(torch.finfo(square.dtype).tiny).sqrt_()


def centre(*sets: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """The sets (rows, d) minus the mean of all their rows, and that mean (d,).

    Distances as |a|^2 + |b|^2 - 2ab lose all digits far from the origin. Subtracting a row before the mean
    keeps identical rows at exactly zero: a collapsed embedding shows as 0/0 and not as rounding noise.
    """
    first = precise(sets[0])[0]
    shifted = [precise(rows) - first for rows in sets]
    mean = torch.stack([rows.sum(0) for rows in shifted]).sum(0) / sum(len(rows) for rows in sets)
    return tuple(rows - mean for rows in shifted), first + mean


def squared_distances(a: Tensor, b: Tensor, a_square: Tensor, b_square: Tensor) -> Tensor:
    """|a_i - b_j|^2, shape (rows of a, rows of b), from centred rows and their squared norms."""
    return torch.addmm(b_square, a, b.T, alpha=-2).add_(a_square[:, None])


def mean_squared_product(a: Tensor, b: Tensor, pairs_at_once: int = PAIRS_AT_ONCE) -> Tensor:
    """Mean of <a_i, b_j>^2 over all pairs: <A'A, B'B> / (n m), or in chunks where that costs less."""
    (n, width), m = a.shape, len(b)
    if (n + m) * width < n * m:
        return ((a.T @ a) * (b.T @ b)).sum() / (n * m)
    step = max(1, pairs_at_once // m)
    return torch.stack([(rows @ b.T).square().sum() for rows in a.split(step)]).sum() / (n * m)


def mean_nearest_distance(
    queries: Tensor, references: Tensor, count: int, pairs_at_once: int = PAIRS_AT_ONCE
) -> Tensor:
    """Mean Euclidean distance (q,) of each query to its ``count`` nearest references, to all where fewer."""
    (queries, references), _ = centre(queries, references)
    query_square, reference_square = queries.square().sum(1), references.square().sum(1)
    step = max(1, pairs_at_once // len(references))
    count = min(count, len(references))
    means = []
    for rows, square in zip(queries.split(step), query_square.split(step), strict=True):
        squares = squared_distances(rows, references, square, reference_square)
        nearest = squares.topk(count, dim=1, largest=False, sorted=False).values
        means.append(nearest.clamp_min(0).sqrt().mean(1))
    return torch.cat(means)


class Pairwise:
    """Mean distances and kernels between train, augmented and test embeddings, each block computed once.

    train (n,d), augmented (m,d), test (k,d). Memory: float64 copies and a few ``pairs_at_once`` doubles.
    distance: Euclidean. rbf: exp(-gamma |a-b|^2). poly: (gamma <a,b> + 1)^3, not centred. gamma = 1/d.
    Under autograd nothing is kept, and chunks are computed anew in the backward pass.
    """

    def __init__(self, train: Tensor, augmented: Tensor, test: Tensor, pairs_at_once: int = PAIRS_AT_ONCE) -> None:
        self._sets: dict[Rows, Tensor] = {"train": train, "augmented": augmented, "test": test}
        self._pairs_at_once = pairs_at_once
        self._kept: dict[Hashable, Any] = {}
        self.gamma = 1 / train.shape[1]

    @property
    def _with_gradient(self) -> bool:
        return torch.is_grad_enabled() and any(rows.requires_grad for rows in self._sets.values())

    def _keep(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        # A kept graph could be walked backward only once, and one made under no_grad not at all.
        if self._with_gradient:
            return make()
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def size(self, rows: Rows) -> int:
        """Number of rows of a set."""
        return len(self._sets[rows])

    def _centred(self) -> tuple[dict[Rows, Tensor], Tensor]:
        def make() -> tuple[dict[Rows, Tensor], Tensor]:
            sets, mean = centre(*self._sets.values())
            return dict(zip(self._sets, sets, strict=True)), mean

        return self._keep("centred", make)

    def centred(self) -> tuple[Tensor, Tensor, Tensor]:
        """Train, augmented and test rows in float64, minus the mean of all of them."""
        sets, _ = self._centred()
        return sets["train"], sets["augmented"], sets["test"]

    def mean_squared_distance(self, first: Rows, second: Rows) -> Tensor:
        """Mean of |a-b|^2 over all pairs, in closed form: mean |a|^2 + mean |b|^2 - 2 <mean a, mean b>."""
        sets, _ = self._centred()
        a, b = sets[first], sets[second]
        return a.square().sum(1).mean() + b.square().sum(1).mean() - 2 * (a.mean(0) @ b.mean(0))

    def mean(self, kind: Kind, first: Rows, second: Rows) -> Tensor:
        """Mean over all pairs (one row of each set, a row with itself included) of a distance or kernel."""
        low, high = sorted((first, second))
        if self._with_gradient:
            return self._block(low, high, (kind,))[0]
        if (low, high, kind) not in self._kept:
            # The product of two sets costs most, so a kernel brings the other kinds that criteria use.
            kinds: tuple[Kind, ...] = (kind,)
            if kind != "distance":
                kinds = KERNELS if low == high else ("distance", *KERNELS)
            for made, value in zip(kinds, self._block(low, high, kinds), strict=True):
                self._kept[low, high, made] = value
        return self._kept[low, high, kind]

    def _block(self, first: Rows, second: Rows, kinds: tuple[Kind, ...]) -> Tensor:
        sets, mean = self._centred()
        a, b = sets[first], sets[second]
        a_square, b_square = a.square().sum(1), b.square().sum(1)
        a_raw, b_raw = ((rows + mean).square().sum(1) if "poly" in kinds else rows[:, 0] for rows in (a, b))
        symmetric = first == second
        step = max(1, self._pairs_at_once // len(b))
        total = a.new_zeros(len(kinds))
        for start in range(0, len(a), step):
            rows, columns = slice(start, start + step), slice(start if symmetric else 0, None)
            arguments = (
                (a[rows], b[columns], a_square[rows], b_square[columns], a_raw[rows], b_raw[columns]),
                (self.gamma, kinds, symmetric),
            )
            if self._with_gradient:  # recomputing a chunk in the backward pass keeps memory bounded there too
                sums = checkpoint(_sums, *arguments, use_reentrant=False, preserve_rng_state=False)
            else:
                sums = _sums(*arguments)
            total = total + sums
        return total / (len(a) * len(b))


def _sums(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
    settings: tuple[float, tuple[Kind, ...], bool],
) -> Tensor:
    """Sums over one chunk of pairs, one a kind; the upper triangle of a symmetric block counts twice."""
    a, b, a_square, b_square, a_raw, b_raw = tensors
    gamma, kinds, symmetric = settings
    squares = squared_distances(a, b, a_square, b_square)
    sums = []
    for kind in kinds:
        if kind == "distance":
            values = root(squares)
        elif kind == "rbf":
            values = (squares * -gamma).exp_()
        else:  # 2 <a,b> = |a|^2 + |b|^2 - |a-b|^2, with the norms of the embeddings as they came
            half = gamma / 2
            base = torch.add(b_raw * half, squares, alpha=-half).add_((1 + a_raw * half)[:, None])
            values = base.pow(3)
        total = values.sum()
        sums.append(2 * total - values[:, : len(a)].sum() if symmetric else total)
    return torch.stack(sums)
