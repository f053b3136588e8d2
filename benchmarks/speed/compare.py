"""Two ways of doing the same, timed in turn; their memory is measured in fresh processes.

Both sides run in one process, so that other load on the machine affects both alike.
"""

import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks.speed.selection_cost import MAXRSS_BYTES
from selector.execution.threads import one_thread

SIDES = ("ours", "usual")


@dataclass(frozen=True)
class Comparison:
    """One row: seconds are medians; ratio is the median, the lowest and the highest of usual over ours, pair by pair.

    Megabytes are those that memory rose by, at its peak, in a fresh process that had its inputs already; with the
    whole peak of every worker process, if there are any.
    """

    part: str
    setting: str
    ours_seconds: float
    usual_seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float
    ours_mb: float
    usual_mb: float


@dataclass(frozen=True)
class Growth:
    """How our seconds (medians) grow with one size; exponent: the slope of log seconds over log sizes."""

    what: str
    of: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    exponent: float


@dataclass(frozen=True)
class Case:
    """Two ways of doing the same; ``scale`` times the usual way's seconds, where it is given a part of the work.

    ``workers``: processes that ours starts.
    """

    ours: Callable[[], object]
    usual: Callable[[], object]
    scale: float = 1.0
    workers: int = 0


Make = Callable[[], Case]


def compare(part: str, setting: str, make: Make, warm: Make, pairs: int) -> Comparison:
    """The row of a case: ``pairs`` of ours and usual in turn, after one of ``warm``, a tiny case of the same kind."""
    with one_thread():
        tiny, case = warm(), make()
        tiny.ours(), tiny.usual()
        both = [(seconds_of(case.ours), seconds_of(case.usual) * case.scale) for _ in range(pairs)]
    ratios = [usual / ours for ours, usual in both]
    del case  # its inputs are made again in each process that is measured
    memory = [in_fresh_process(megabytes_of, make, warm, side) for side in SIDES]
    ours, usual = np.median(both, axis=0).tolist()
    return Comparison(part, setting, ours, usual, float(np.median(ratios)), min(ratios), max(ratios), *memory)


def grow(what: str, of: str, sizes: tuple[int, ...], make: Callable[[int], Case], repeats: int) -> Growth:
    """Median seconds of ours at each size, all sizes in turn ``repeats`` times, and the exponent fitted to them."""
    with one_thread():
        runs = [make(size).ours for size in sizes]
        runs[0]()
        rounds = [[seconds_of(run) for run in runs] for _ in range(repeats)]
    seconds = np.median(rounds, axis=0)
    exponent = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    return Growth(what, of, sizes, tuple(seconds.tolist()), float(exponent))


def seconds_of(run: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def in_fresh_process(task: Callable[..., Any], *arguments: Any) -> Any:
    """The result of ``task``, called in a process of its own."""
    # A process that is started by exec inherits the peak of the one that started it; a forked one does not, and the
    # server that forks it is small.
    context = get_context("forkserver")
    context.set_forkserver_preload(["selector"])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(task, *arguments).result()


def megabytes_of(make: Make, warm: Make, side: str) -> float:
    """What the peak of this process rises by when one side of a case runs, and the peak of the workers it starts."""
    with one_thread():
        getattr(warm(), side)()
        case = make()
        before = _peak(resource.RUSAGE_SELF)
        getattr(case, side)()
    rise = _peak(resource.RUSAGE_SELF) - before
    return rise + case.workers * _peak(resource.RUSAGE_CHILDREN) if side == "ours" else rise


def _peak(who: int) -> float:
    return resource.getrusage(who).ru_maxrss * MAXRSS_BYTES / 1e6
