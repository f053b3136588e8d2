"""Where the command begins: what it imports takes seconds, during which Ctrl-C has to end it, too."""

import os
import signal
from types import FrameType
from typing import NoReturn

STOPPED = 128 + signal.SIGINT  # by Ctrl-C, as shells have it


def main() -> None:
    """Load the command and run it; Ctrl-C before that is one line and exit code 130."""
    before = signal.getsignal(signal.SIGINT)
    is_ours = before is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, _stop)
    from selector.command import main as run

    if is_ours:
        signal.signal(signal.SIGINT, before)
    run()


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """End without an exception: a library that is being imported could take it for a failure of its own."""
    os.write(2, b"ssad: stopped before anything was begun\n")
    os._exit(STOPPED)


if __name__ == "__main__":
    main()
