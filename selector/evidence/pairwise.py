"""Means over all pairs of rows of two sets, in float64, without all pairs or a float64 copy of a large set in memory.

What has a closed form takes every row. What costs a step per pair takes the pairs of ``MOST_ROWS`` random rows of a
larger set, the same ones for every candidate and draw, so that differences between candidates keep little of the error.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from augmentations.randomness import generator

Rows = Literal["train", "augmented", "test"]
Kind = Literal["distance", "rbf", "poly"]
KERNELS: tuple[Kind, ...] = ("rbf", "poly")
PAIRS_AT_ONCE = 2**19  # 4 MB per temporary, the fastest measured: 2^22 takes 1.6 times as long, 2^17 1.2 times
MOST_ROWS = 8192  # of a set, that pairs are made of: 6.7e7 pairs of two sets, some seconds of one core at width 512
SUBSAMPLES = 8  # parts of the sampled rows, whose values give the error: together an eighth more pairs
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
    sums = [minus(piece, first).sum(0) for rows in sets for piece in rows.split(_step(rows))]
    return first + torch.stack(sums).sum(0) / sum(map(len, sets))


def _step(rows: Tensor, values_at_once: int = PAIRS_AT_ONCE) -> int:
    """How many rows are of so many values."""
    return max(1, values_at_once // max(1, rows.shape[1]))


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
    references = minus(references, mean)
    reference_square = squared_norms(references)
    step = max(1, min(pairs_at_once // len(references), _step(queries, pairs_at_once)))
    count = min(count, len(references))
    means = []
    for piece in queries.split(step):
        rows = minus(piece, mean)
        squares = squared_distances(rows, references, squared_norms(rows), reference_square)
        nearest = squares.topk(count, dim=1, largest=False, sorted=False).values
        means.append(nearest.clamp_min(0).sqrt().mean(1))
    return torch.cat(means)


class Pairwise:
    """Mean distances and kernels between train, augmented and test embeddings, each block computed once.

    distance: Euclidean. rbf: exp(-gamma |a-b|^2). poly: (gamma <a,b> + 1)^3, not centred. gamma = 1/d.
    Memory: a few ``pairs_at_once`` doubles and float64 copies of two sets, of ``most_rows`` at most. Under autograd
    nothing is cached, and chunks are recomputed in the backward pass.

    Args:
        train: (n,d).
        augmented: (m,d).
        test: (k,d).
        pairs_at_once: of a chunk; as many values of a set are converted at once.
        most_rows: of a set, that pairs are made of.
    """

    def __init__(
        self,
        train: Tensor,
        augmented: Tensor,
        test: Tensor,
        pairs_at_once: int = PAIRS_AT_ONCE,
        most_rows: int = MOST_ROWS,
    ) -> None:
        self._sets: dict[Rows, Tensor] = {"train": train, "augmented": augmented, "test": test}
        self._pairs_at_once, self._most_rows = pairs_at_once, most_rows
        self._of_draw: dict[Hashable, Any] = {}
        self._of_all_draws: dict[Hashable, Any] = {}
        self._part: int | None = None  # of the sampled rows; None: all of them
        self.gamma = 1 / train.shape[1]

    def with_augmented(self, augmented: Tensor) -> "Pairwise":
        """The same train and test rows beside other augmented ones: what lies among the former is computed once."""
        other = Pairwise(self._sets["train"], augmented, self._sets["test"], self._pairs_at_once, self._most_rows)
        other._of_all_draws = self._of_all_draws
        return other

    @property
    def is_sampled(self) -> bool:
        """Whether pairs are those of a sample of the rows of a set."""
        return any(self._sampled(rows) for rows in self._sets)

    def parts(self) -> list["Pairwise"]:
        """The same sets with pairs of each of ``SUBSAMPLES`` parts of the sampled rows; none where all pairs count."""
        return [self._of_part(part) for part in range(SUBSAMPLES)] if self.is_sampled else []

    @property
    def share_left_out(self) -> float:
        """Of the rows of the set that is sampled most sparsely, the share that no pair has."""
        return max(1 - self._most_rows / len(rows) for rows in self._sets.values()) if self.is_sampled else 0.0

    def _of_part(self, part: int) -> "Pairwise":
        other = self.with_augmented(self._sets["augmented"])
        other._of_draw, other._part = self._of_draw, part
        return other

    def _sampled(self, rows: Rows) -> bool:
        return len(self._sets[rows]) > self._most_rows

    @property
    def _with_gradient(self) -> bool:
        return torch.is_grad_enabled() and any(rows.requires_grad for rows in self._sets.values())

    def cached(self, key: tuple[Hashable, ...], make: Callable[[], Value]) -> Value:
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

    @property
    def _origin(self) -> Tensor:
        if "origin" not in self._of_all_draws:
            with torch.no_grad():  # distances know no origin, so neither do their gradients
                self._of_all_draws["origin"] = origin(self._sets["train"], self._sets["test"])
        return self._of_all_draws["origin"]

    def chunks(self, rows: Rows) -> Iterator[Tensor]:
        """The rows of a set in float64, minus the mean of all train and test rows, some at a time."""
        values = self._sets[rows]
        step = len(values) if self._with_gradient else _step(values, self._pairs_at_once)
        return (minus(piece, self._origin) for piece in values.split(step))

    def centre(self, rows: Rows) -> Tensor:
        """The mean (d,) of the centred rows of a set."""

        def mean() -> Tensor:
            return torch.stack([piece.sum(0) for piece in self.chunks(rows)]).sum(0) / self.size(rows)

        return self.cached(("centre", rows), mean)

    def squares(self, rows: Rows) -> Tensor:
        """The squared norm of each centred row of a set."""
        return self.cached(("squares", rows), lambda: torch.cat([squared_norms(piece) for piece in self.chunks(rows)]))

    def distances_to(self, centre: Tensor, rows: Rows) -> Tensor:
        """The distance of each centred row of a set to a point (d,)."""
        return torch.cat([torch.linalg.vector_norm(piece - centre, dim=1) for piece in self.chunks(rows)])

    def mean_squared_distance(self, first: Rows, second: Rows) -> Tensor:
        """Mean of |a-b|^2 over the pairs of ``mean``, in closed form: mean |a|^2 + mean |b|^2 - 2 <mean a, mean b>."""
        (a_centre, a_square), (b_centre, b_square) = self._moments(first), self._moments(second)
        return a_square + b_square - 2 * (a_centre @ b_centre)

    def _moments(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The mean (d,) and the mean square of the rows that pairs are made of."""
        if not self._sampled(rows):
            return self.centre(rows), self.squares(rows).mean()

        def moments() -> tuple[Tensor, Tensor]:
            sample = minus(self._sample(rows), self._origin)
            return sample.mean(0), squared_norms(sample).mean()

        return self.cached(("moments", rows, self._part), moments)

    def mean_squared_projection(self, rows: Rows, directions: Tensor) -> Tensor:
        """Mean of <a - mean a, u>^2 over all rows a of a set and all directions u (m, d)."""
        n, (m, width) = self.size(rows), directions.shape
        centre = self.centre(rows)

        def scatter() -> Tensor:
            total = directions.new_zeros(width, width)  # and not all of the chunks at once, 2 MB each
            for piece in self.chunks(rows):
                total = total + (piece - centre).T @ (piece - centre)
            return total

        # Through the scatter matrix it is twice the work at worst, and for every further draw a fraction.
        if width / n + width / m < 2:
            return ((directions @ self.cached(("scatter", rows), scatter)) * directions).sum() / (n * m)
        step = max(1, self._pairs_at_once // m)
        pieces = (piece - centre for chunk in self.chunks(rows) for piece in chunk.split(step))
        return torch.stack([(piece @ directions.T).square().sum() for piece in pieces]).sum() / (n * m)

    def mean(self, kind: Kind, first: Rows, second: Rows) -> Tensor:
        """Mean over all pairs (one row of each set, a row with itself included) of a distance or kernel.

        Of a set of more than ``most_rows`` those of a sample of its rows, an unbiased estimate of it.
        """
        low, high = sorted((first, second))
        if self._with_gradient:
            return self._block(low, high, (kind,))[0]
        # The product of two sets costs most, so a kernel brings the other kinds that criteria use.
        kinds: tuple[Kind, ...] = (kind,)
        if kind != "distance":
            kinds = KERNELS if low == high else ("distance", *KERNELS)
        cache = self._of_draw if "augmented" in (low, high) else self._of_all_draws
        if (low, high, self._part, kind) not in cache:
            for computed, value in zip(kinds, self._block(low, high, kinds), strict=True):
                cache[low, high, self._part, computed] = value
        return cache[low, high, self._part, kind]

    def mean_distances(self, of: Rows, to: Rows) -> Tensor:
        """(rows of ``of``,) the mean distance of each row of a set to those of another; nan of a row without a pair.

        Their mean, without those that are nan, is ``mean("distance", of, to)``.
        """
        return self.cached(("mean distances", self._part, of, to), lambda: self._mean_distances(of, to))

    def _mean_distances(self, of: Rows, to: Rows) -> Tensor:
        a, b = (minus(self._sample(rows), self._origin) for rows in (of, to))
        b_square = squared_norms(b)
        step = max(1, self._pairs_at_once // len(b))
        means = [
            safe_sqrt(squared_distances(piece, b, squared_norms(piece), b_square)).mean(1) for piece in a.split(step)
        ]
        if not self._sampled(of):
            return torch.cat(means)
        return a.new_full((self.size(of),), torch.nan).index_copy(0, self._places(of).to(a.device), torch.cat(means))

    def _sample(self, rows: Rows) -> Tensor:
        """The rows of a set, as they came, that pairs are made of: all, or the same random ones of every candidate."""
        values = self._sets[rows]
        return values[self._places(rows).to(values.device)] if self._sampled(rows) else values

    def _places(self, rows: Rows) -> Tensor:
        """Where in its set the sampled rows are."""
        # Drawn for each set by itself: a row would else meet its own pseudo anomaly too often.
        places = torch.randperm(self.size(rows), generator=generator(0, "rows of pairs", rows))[: self._most_rows]
        return places if self._part is None else places.tensor_split(SUBSAMPLES)[self._part]

    def _block(self, first: Rows, second: Rows, kinds: tuple[Kind, ...]) -> Tensor:
        symmetric = first == second
        samples = [self._sample(rows) for rows in ((first,) if symmetric else (first, second))]
        rows_of = [minus(sample, self._origin) for sample in samples]
        squares_of = [squared_norms(rows) for rows in rows_of]
        raw_of = [squared_norms(to_float64(sample)) for sample in samples] if "poly" in kinds else squares_of
        a, b, a_square, b_square, a_raw, b_raw = (of[i] for of in (rows_of, squares_of, raw_of) for i in (0, -1))
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
        if symmetric and self._sampled(first):  # a row's pair with itself is rarer among all pairs than in a sample
            own = torch.stack([self._with_itself(kind, a_raw) for kind in kinds])
            return (total / len(a) - own) / (len(a) - 1) * (1 - 1 / self.size(first)) + own / self.size(first)
        return total / (len(a) * len(b))

    def _with_itself(self, kind: Kind, raw_squares: Tensor) -> Tensor:
        """The mean over pairs of a row with itself."""
        if kind == "poly":
            return (1 + self.gamma * raw_squares).pow(3).mean()
        return torch.full_like(raw_squares[0], float(kind == "rbf"))


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
