"""Numeric work of one process in threads, each of which computes in one thread."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_THREADS = 8  # that hold the evidence of a candidate each


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for numeric libraries: two workers of one thread beat one of two, and sums do not depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], at_once: int = MOST_THREADS) -> list[Result]:
    """The results, in order, for numeric work of one process: as many threads as torch has, one item each at a time.

    For what copies to worker processes would cost more than it takes; ``at_once`` bounds the items in memory.
    """
    at_once = min(at_once, torch.get_num_threads())
    with one_thread(), ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(function, items))
