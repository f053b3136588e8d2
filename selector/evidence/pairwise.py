"""Means over all pairs of rows of two sets, in float64, without all pairs in memory."""

from collections.abc import Callable, Hashable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Rows = Literal["train", "augmented", "test"]
Kind = Literal["distance", "rbf", "poly"]
KERNELS: tuple[Kind, ...] = ("rbf", "poly")
PAIRS_AT_ONCE = 2**19  # 4 MB per temporary, the fastest measured: 2^22 takes 1.6 times as long, 2^17 1.2 times
Value = TypeVar("Value")


def to_float64(tensor: Tensor) -> Tensor:
    """The tensor in float64, on the CPU where its device has no float64 (mps)."""
    if tensor.device.type == "mps":
        tensor = tensor.cpu()
    return tensor.to(torch.float64)


def minus(rows: Tensor, at: Tensor) -> Tensor:
    """Rows (n,d) minus a float64 row (d,), in float64, on the CPU as ``to_float64``."""
    return (rows.cpu() if rows.device.type == "mps" else rows) - at


def safe_sqrt(square: Tensor, into: Tensor | None = None) -> Tensor:
    """Square root with gradient 0 instead of nan where rounding leaves a square at or below 0."""
    return torch.clamp(square, min=torch.finfo(square.dtype).tiny, out=into).sqrt_()


def origin(*sets: Tensor) -> Tensor:
    """The mean (d,) of all rows of the sets (rows, d), in float64.

    Distances as |a|^2 + |b|^2 - 2ab lose all digits far from the origin. Subtracting a row before the mean
    keeps identical rows at exactly zero: a collapsed embedding shows as 0/0 and not as rounding noise.
    """
    first = to_float64(sets[0][0])
    return first + torch.stack([minus(rows, first).sum(0) for rows in sets]).sum(0) / sum(map(len, sets))


def squared_norms(rows: Tensor) -> Tensor:
    """|a_i|^2, shape (rows,), without a tensor of the squares of all values."""
    return torch.linalg.vector_norm(rows, dim=1).square()


def squared_distances(a: Tensor, b: Tensor, a_square: Tensor, b_square: Tensor, into: Tensor | None = None) -> Tensor:
    """|a_i - b_j|^2, shape (rows of a, rows of b), from centred rows and their squared norms."""
    return torch.addmm(b_square, a, b.T, alpha=-2, out=into).add_(a_square[:, None])


def mean_nearest_distance(
    queries: Tensor, references: Tensor, count: int, pairs_at_once: int = PAIRS_AT_ONCE
) -> Tensor:
    """Mean Euclidean distance of each query to its nearest references.

    Args:
        queries: (q,d).
        references: (r,d).
        count: of the nearest; all where there are fewer.
        pairs_at_once: bounds the memory.

    Returns:
        (q,), float64.
    """
    mean = origin(queries, references)
    queries, references = minus(queries, mean), minus(references, mean)
    query_square, reference_square = squared_norms(queries), squared_norms(references)
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

    distance: Euclidean. rbf: exp(-gamma |a-b|^2). poly: (gamma <a,b> + 1)^3, not centred. gamma = 1/d.
    Memory: float64 copies and a few ``pairs_at_once`` doubles. Under autograd nothing is cached, and chunks are
    recomputed in the backward pass.

    Args:
        train: (n,d).
        augmented: (m,d).
        test: (k,d).
        pairs_at_once: of a chunk.
    """

    def __init__(self, train: Tensor, augmented: Tensor, test: Tensor, pairs_at_once: int = PAIRS_AT_ONCE) -> None:
        self._sets: dict[Rows, Tensor] = {"train": train, "augmented": augmented, "test": test}
        self._pairs_at_once = pairs_at_once
        self._of_draw: dict[Hashable, Any] = {}
        self._of_all_draws: dict[Hashable, Any] = {}
        self.gamma = 1 / train.shape[1]

    def with_augmented(self, augmented: Tensor) -> "Pairwise":
        """The same train and test rows beside other augmented ones: what lies among the former is computed once."""
        other = Pairwise(self._sets["train"], augmented, self._sets["test"], self._pairs_at_once)
        other._of_all_draws = self._of_all_draws
        return other

    @property
    def _with_gradient(self) -> bool:
        return torch.is_grad_enabled() and any(rows.requires_grad for rows in self._sets.values())

    def cached(self, key: tuple[str, ...], make: Callable[[], Value]) -> Value:
        """The value of ``make()``, computed once; ``key`` says what it is and names the sets that enter it."""
        # A cached graph could be walked backward only once, and one made under no_grad not at all.
        if self._with_gradient:
            return make()
        cache = self._of_draw if "augmented" in key else self._of_all_draws
        if key not in cache:
            cache[key] = make()
        return cache[key]

    def size(self, rows: Rows) -> int:
        """Number of rows of a set."""
        return len(self._sets[rows])

    def centred(self, rows: Rows) -> Tensor:
        """The rows of a set in float64, minus the mean of all train and test rows."""
        if "origin" not in self._of_all_draws:
            with torch.no_grad():  # distances know no origin, so neither do their gradients
                self._of_all_draws["origin"] = origin(self._sets["train"], self._sets["test"])
        return self.cached(("centred", rows), lambda: minus(self._sets[rows], self._of_all_draws["origin"]))

    def centre(self, rows: Rows) -> Tensor:
        """The mean (d,) of the centred rows of a set."""
        return self.cached(("centre", rows), lambda: self.centred(rows).mean(0))

    def squares(self, rows: Rows) -> Tensor:
        """The squared norm of each centred row of a set."""
        return self.cached(("squares", rows), lambda: squared_norms(self.centred(rows)))

    def mean_squared_distance(self, first: Rows, second: Rows) -> Tensor:
        """Mean of |a-b|^2 over all pairs, in closed form: mean |a|^2 + mean |b|^2 - 2 <mean a, mean b>."""
        product = self.centre(first) @ self.centre(second)
        return self.squares(first).mean() + self.squares(second).mean() - 2 * product

    def mean_squared_projection(self, rows: Rows, directions: Tensor) -> Tensor:
        """Mean of <a - mean a, u>^2 over all rows a of a set and all directions u (m, d)."""
        n, (m, width) = self.size(rows), directions.shape

        def deviations() -> Tensor:
            return self.centred(rows) - self.centre(rows)

        def scatter() -> Tensor:
            apart = deviations()
            return apart.T @ apart

        # Through the scatter matrix it is twice the work at worst, and for every further draw a fraction.
        if width / n + width / m < 2:
            return ((directions @ self.cached(("scatter", rows), scatter)) * directions).sum() / (n * m)
        pieces = deviations().split(max(1, self._pairs_at_once // m))
        return torch.stack([(piece @ directions.T).square().sum() for piece in pieces]).sum() / (n * m)

    def mean(self, kind: Kind, first: Rows, second: Rows) -> Tensor:
        """Mean over all pairs (one row of each set, a row with itself included) of a distance or kernel."""
        low, high = sorted((first, second))
        if self._with_gradient:
            return self._block(low, high, (kind,))[0]
        # The product of two sets costs most, so a kernel brings the other kinds that criteria use.
        kinds: tuple[Kind, ...] = (kind,)
        if kind != "distance":
            kinds = KERNELS if low == high else ("distance", *KERNELS)
        cache = self._of_draw if "augmented" in (low, high) else self._of_all_draws
        if (low, high, kind) not in cache:
            for computed, value in zip(kinds, self._block(low, high, kinds), strict=True):
                cache[low, high, computed] = value
        return cache[low, high, kind]

    def _block(self, first: Rows, second: Rows, kinds: tuple[Kind, ...]) -> Tensor:
        a, b = self.centred(first), self.centred(second)
        a_square, b_square = self.squares(first), self.squares(second)
        a_raw, b_raw = (self._raw_squares(rows) if "poly" in kinds else self.squares(rows) for rows in (first, second))
        symmetric = first == second
        step = max(1, self._pairs_at_once // len(b))
        total = a.new_zeros(len(kinds))
        # Memory that is freed and allocated again at every chunk costs as much as a pass over it.
        scratch = None if self._with_gradient else a.new_empty(2, min(step, len(a)) * len(b))
        for start in range(0, len(a), step):
            rows, columns = slice(start, start + step), slice(start if symmetric else 0, None)
            arguments = (
                (a[rows], b[columns], a_square[rows], b_square[columns], a_raw[rows], b_raw[columns]),
                (self.gamma, kinds, symmetric),
                scratch,
            )
            if self._with_gradient:  # recomputing a chunk in the backward pass keeps memory bounded there too
                sums = checkpoint(_sums, *arguments, use_reentrant=False, preserve_rng_state=False)
            else:
                sums = _sums(*arguments)
            total = total + sums
        return total / (len(a) * len(b))

    def _raw_squares(self, rows: Rows) -> Tensor:
        return self.cached(("raw squares", rows), lambda: squared_norms(to_float64(self._sets[rows])))


def _sums(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
    settings: tuple[float, tuple[Kind, ...], bool],
    scratch: Tensor | None,
) -> Tensor:
    """Sums over one chunk of pairs, one per kind; the upper triangle of a symmetric block counts twice.

    ``scratch``: (2, as many values as there are pairs, or more) to work in, where nothing wants gradients.
    """
    a, b, a_square, b_square, a_raw, b_raw = tensors
    gamma, kinds, symmetric = settings
    n, m = len(a), len(b)
    distances, into = (None, None) if scratch is None else (piece[: n * m].view(n, m) for piece in scratch)
    squares = squared_distances(a, b, a_square, b_square, distances)
    sums = []
    for kind in kinds:
        if kind == "distance":
            values = safe_sqrt(squares, into)
        elif kind == "rbf":
            values = torch.mul(squares, -gamma, out=into).exp_()
        else:  # 2 <a,b> = |a|^2 + |b|^2 - |a-b|^2, with the norms of the embeddings as they came
            half = gamma / 2
            base = torch.add(b_raw * half, squares, alpha=-half, out=into).add_((1 + a_raw * half)[:, None])
            values = torch.pow(base, 3, out=into)
        total = values.sum()
        sums.append(2 * total - values[:, : len(a)].sum() if symmetric else total)
    return torch.stack(sums)
