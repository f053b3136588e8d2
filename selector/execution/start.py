"""How worker processes begin: which code they can find, and where what they say goes."""

import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

SAFE_PATH = "PYTHONSAFEPATH"  # Python then puts neither the working folder nor a script's first on the path
KEPT_LINES = 40  # of what workers wrote, in memory
QUOTED = 300  # characters of it in a message
FATAL = "Fatal Python error"  # begins what Python writes of a crash, before the stack
WAIT_SECONDS = 2.0  # for the last words of workers that have ended


@contextmanager
def working_folder_last() -> Iterator[None]:
    """Processes started meanwhile search the working folder for modules last, behind all that is installed.

    Files of a user's that lie there under the name of a standard module (signal.py) are not run; a my_kind.py is found.
    """
    before, path = os.environ.get(SAFE_PATH), list(sys.path)
    os.environ[SAFE_PATH] = "1"
    if "" in path:  # Python's own entry for the working folder
        sys.path[:] = [*filter(None, path), os.getcwd()]
    try:
        yield
    finally:
        sys.path[:] = path
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


class Words:
    """What the workers of a pool write to standard error: passed on as it comes, its end kept."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._source, self._sink = os.pipe()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    @contextmanager
    def of_started_processes(self) -> Iterator[None]:
        """Processes started meanwhile write here; this process's own standard error is as before afterwards."""
        try:
            own = os.dup(2)
        except OSError:  # there is none
            yield
            return
        os.dup2(self._sink, 2)
        try:
            yield
        finally:
            os.dup2(own, 2)
            os.close(own)

    def close(self) -> None:
        """Take in what is left, once the workers have ended."""
        os.close(self._sink)
        self._thread.join(WAIT_SECONDS)

    def last(self) -> str:
        """The last line, or what Python says of a crash; empty where nothing was written."""
        lines = [line.strip() for line in self._lines if line.strip()]
        fatal = [line for line in lines if line.startswith(FATAL)]
        return (fatal or lines or [""])[-1][:QUOTED]

    def _pass_on(self) -> None:
        with os.fdopen(self._source, encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                self._lines.append(line)
                if sys.stderr is not None:
                    sys.stderr.write(line)
                    sys.stderr.flush()
