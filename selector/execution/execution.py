"""Running pure functions, here or in worker processes, whatever happens to a worker.

An engine is anything with ``run(function, items)``: it yields each item with its outcome as it comes. A function
keeps its own result (on disk, under the item's name); the outcome only says whether it came through.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Protocol, TypeVar

import joblib
import torch
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from threadpoolctl import threadpool_limits

from augmentations.errors import whole_number

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_THREADS = 8  # that hold the evidence of a candidate each
TRIES_ALONE = 2  # of an item whose worker died, before the item itself is blamed
ORPHAN_SECONDS = 0.5  # between a worker's looks at whether the process that started it still lives


class WorkerDiedError(RuntimeError):
    """The process that worked on an item was killed, more than once and with nothing else running beside it."""


Outcomes = Generator[tuple[Item, WorkerDiedError | None], None, None]


class Engine(Protocol):
    """Where the work is done."""

    def run(self, function: Callable[[Item], None], items: Sequence[Item]) -> Outcomes[Item]:
        """Call the function on every item; yield each item when done, with an error if its worker kept dying.

        What the function raises ends the run and is raised here. Closing the generator ends the work in flight.
        """
        ...


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


class ThisProcess:
    """Everything here, one item after another."""

    def run(self, function: Callable[[Item], None], items: Sequence[Item]) -> Outcomes[Item]:
        for item in items:
            with one_thread():
                function(item)
            yield item, None


class LocalWorkers:
    """Worker processes on this machine, one thread each (joblib's loky).

    loky gives up a whole pool when one worker is killed. So no more items are handed out than there are workers:
    those in flight at the crash are known, and only they are tried again, one at a time, which tells the item that
    kills its worker from its innocent neighbours.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def run(self, function: Callable[[Item], None], items: Sequence[Item]) -> Outcomes[Item]:
        waiting, suspects = deque(items), deque[Item]()
        while waiting or suspects:
            if suspects:
                yield from _one_at_a_time(function, suspects)
                continue
            in_flight: dict[Future[None], Item] = {}
            with _pool(min(self.jobs, len(waiting))) as pool:
                alive = True
                while in_flight or (waiting and alive):
                    try:
                        while waiting and alive and len(in_flight) < self.jobs:
                            future = pool.submit(function, waiting[0])
                            in_flight[future] = waiting.popleft()
                    except TerminatedWorkerError:
                        alive = False
                    done, _ = wait(in_flight, return_when=FIRST_COMPLETED)
                    for future in done:
                        item = in_flight.pop(future)
                        try:
                            future.result()
                        except TerminatedWorkerError:
                            alive = False
                            suspects.append(item)
                        else:
                            yield item, None


def _one_at_a_time(function: Callable[[Item], None], suspects: deque[Item]) -> Outcomes[Item]:
    died = 0
    while suspects:
        with _pool(1) as pool:
            while suspects:
                try:
                    pool.submit(function, suspects[0]).result()
                except TerminatedWorkerError:
                    died += 1
                    if died == TRIES_ALONE:
                        told = f"its worker process was killed {1 + TRIES_ALONE} times (is memory short?)"
                        yield suspects.popleft(), WorkerDiedError(told)
                        died = 0
                    break
                yield suspects.popleft(), None
                died = 0


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    pool = ProcessPoolExecutor(jobs, initializer=_begin_worker, initargs=(os.getpid(),), env=single)
    try:
        yield pool
    finally:
        # Every result is on disk when its item is done, so idle workers have nothing to put in order, which takes them
        # seconds; and after an error or an interrupt what is in flight is done again next time.
        pool.shutdown(wait=True, kill_workers=True)


def _begin_worker(parent: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers

    def end_with_parent() -> None:
        # A parent that was killed can't end its workers; they must not write beside the next run.
        while os.getppid() == parent:
            time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def engine(jobs: int | None, device: torch.device) -> Engine:
    """The local engine for a number of jobs; None: a worker a core on the CPU, else one for the device.

    Raises InputError for a number below 1.
    """
    if jobs is None:
        jobs = joblib.cpu_count() if device.type == "cpu" else 1
    whole_number("jobs", jobs, 1, "leave it out for one per core")
    return ThisProcess() if jobs == 1 else LocalWorkers(jobs)
