"""Worker processes on this machine; a run survives that one of them is killed."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager

import torch
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from selector.execution.base import Item, Outcomes, WorkerDiedError

TRIES_ALONE = 2  # of an item whose worker died, before the item itself is blamed
ORPHAN_SECONDS = 0.5  # between a worker's looks at whether the process that started it still lives


class LocalWorkers:
    """Worker processes on this machine, one thread each (joblib's loky).

    loky gives up a whole pool when one worker is killed. So no more items are handed out than there are workers:
    those in flight at the crash are known, and only they are tried again, one at a time, which distinguishes the
    item that kills its worker from those that ran beside it.
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
                        message = f"its worker process was killed {1 + TRIES_ALONE} times (is memory short?)"
                        yield suspects.popleft(), WorkerDiedError(message)
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
