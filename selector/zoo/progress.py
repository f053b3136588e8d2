"""What the user sees while the zoo is trained: candidates done, current losses, time left."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from selector.zoo.candidates import Candidate, columns, descriptions
from selector.zoo.store import Store
from selector.zoo.zoo import Zoo

REFRESH_SECONDS = 0.5


@contextmanager
def display(zoo: Zoo, n_pending: Callable[[], int], enabled: bool) -> Iterator[Callable[[Candidate], None]]:
    """Yield a function to call with every finished candidate, and show progress on standard error.

    On a terminal it is a live table; elsewhere, such as in a log file, one line per candidate.

    Args:
        zoo: the candidates that are trained.
        n_pending: how many candidates a search is still to propose.
        enabled: whether to show anything.
    """
    if not enabled:
        yield lambda candidate: None
        return
    tally = _Tally(zoo, n_pending)
    console = Console(stderr=True)
    if not console.is_terminal:

        def report(candidate: Candidate) -> None:
            tally.done(candidate)
            print(f"{tally.line()}: {tally.name(candidate)}{tally.trouble(candidate)}", file=sys.stderr, flush=True)

        yield report
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        stop = threading.Event()

        def refresh() -> None:
            while not stop.wait(REFRESH_SECONDS):
                live.update(tally.render(), refresh=True)

        watcher = threading.Thread(target=refresh, daemon=True)
        watcher.start()
        try:
            yield tally.done
        finally:
            stop.set()
            watcher.join()
    console.print(tally.line())


class _Tally:
    def __init__(self, zoo: Zoo, n_pending: Callable[[], int]) -> None:
        self.zoo, self.store, self.n_pending = zoo, Store(zoo.store.root), n_pending
        self.already = len(zoo.candidates) - len(zoo.unfinished())
        self.finished: set[str] = set()
        self.failed: set[str] = set()
        self.names: dict[str, str] = {}
        self.started = time.monotonic()

    def done(self, candidate: Candidate) -> None:
        self.finished.add(candidate.id)
        if self.trouble(candidate):
            self.failed.add(candidate.id)

    def trouble(self, candidate: Candidate) -> str:
        record = self.store.record(candidate.id)
        return "" if record["status"] == "ok" else f", failed: {record['reason']}"

    def name(self, candidate: Candidate) -> str:
        """What tells a candidate from the others: its kind, scorer and seed where they vary."""
        if len(self.names) < len(self.zoo.candidates):  # a search proposes candidates as it goes
            rows = columns(self.zoo.candidates)
            seeds_vary = len({row["seed"] for row in rows}) > 1
            words = descriptions(rows)
            self.names = {
                row["candidate"]: words[row["candidate"]] + (f", seed {row['seed']}" if seeds_vary else "")
                for row in rows
            }
        return self.names[candidate.id]

    @property
    def total(self) -> int:
        """A search proposes candidates as it goes."""
        return len(self.zoo.candidates) + self.n_pending()

    def line(self) -> str:
        n, total = len(self.finished), self.total
        elapsed = time.monotonic() - self.started
        if n == total:
            failed = f", {len(self.failed)} of them failed" if self.failed else ""
            return f"{n} of {total} candidates after {_duration(elapsed)}{failed}"
        fresh = n - self.already
        left = f", about {_duration(elapsed / fresh * (total - n))} left" if fresh > 0 else ""
        return f"{n} of {total} candidates{left}"

    def render(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row(ProgressBar(self.total, len(self.finished), width=30), Text(self.line()))
        for candidate in self.zoo.candidates:
            at = None if candidate.id in self.finished else self.store.progress(candidate.training_id)
            if at is not None:
                steps = getattr(candidate.training.settings, "steps", None)
                where = f"step {at['step']:.0f}{f' of {steps}' if steps else ''}, loss {at['loss']:.3f}"
                table.add_row(Text(where, style="dim"), Text(self.name(candidate), style="dim"))
        return table


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
