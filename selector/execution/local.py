"""Worker processes on this machine; a run survives that one of them is killed."""

import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager

import torch
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.backend import resource_tracker
from joblib.externals.loky.process_executor import TerminatedWorkerError

from selector.execution.base import Item, Outcomes, WorkerDiedError
from selector.execution.start import Words, working_folder_last

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
        death = ""
        with _pool(1) as pool:
            while suspects and not death:
                try:
                    pool.submit(function, suspects[0]).result()
                except TerminatedWorkerError as error:
                    death = str(error)
                    died += 1
                else:
                    yield suspects.popleft(), None
                    died = 0
        if died == TRIES_ALONE:
            yield suspects.popleft(), WorkerDiedError(_describe_death(death, pool.words.last()))
            died = 0


def _describe_death(message: str, words: str) -> str:
    """How a worker ended, by what the pool says of it and by its own last words."""
    code = re.search(r"exit codes of the workers are \{(.*)\}", message)
    how = f", the last time by {code[1]}" if code else ""
    if words:
        how += f'; its last words: "{words}"'
    elif code and "SIGKILL" in code[1]:
        how += ", as a system that is short of memory does"
    return f"its worker process was killed {1 + TRIES_ALONE} times{how}"


class _Pool:
    """A pool of loky's whose workers begin as ``selector.execution.start`` says."""

    def __init__(self, jobs: int) -> None:
        single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.words = Words()
        with working_folder_last():  # loky's tracker of resources is a process too
            self._executor = ProcessPoolExecutor(jobs, initializer=_begin_worker, initargs=(os.getpid(),), env=single)
            resource_tracker.ensure_running()

    def submit(self, function: Callable[[Item], None], item: Item) -> Future[None]:
        """Hand out an item, for which workers are started where there are too few."""
        with working_folder_last(), self.words.of_started_processes():
            return self._executor.submit(function, item)

    def close(self) -> None:
        # Every result is on disk when its item is done, so idle workers have nothing to put in order, which takes them
        # seconds; and after an error or an interrupt what is in flight is done again next time.
        self._executor.shutdown(wait=True, kill_workers=True)
        self.words.close()


@contextmanager
def _pool(jobs: int) -> Iterator[_Pool]:
    pool = _Pool(jobs)
    try:
        yield pool
    finally:
        pool.close()


def _begin_worker(parent: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers

    def end_with_parent() -> None:
        # A parent that was killed can't end its workers; they must not write beside the next run.
        while os.getppid() == parent:
            time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
