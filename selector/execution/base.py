"""What an engine is: it runs a pure function on items, whatever happens to the worker of one."""

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")


class WorkerDiedError(RuntimeError):
    """The process that worked on an item was killed, more than once and with nothing else running beside it."""


Outcomes = Generator[tuple[Item, WorkerDiedError | None], None, None]


@runtime_checkable
class Engine(Protocol):
    """Where the work is done.

    A function stores its own result, under the item's name in the run folder, which workers must therefore reach; they
    need not share this process's memory, and functions and items are pickled on their way to them. The outcome only
    says whether the function came through. Numeric libraries get one thread per item (``threads.one_thread``), so
    that results do not depend on the machine.
    """

    def run(self, function: Callable[[Item], None], items: Sequence[Item]) -> Outcomes[Item]:
        """Call the function on every item; yield each item when done, with an error if its worker kept dying.

        What the function raises ends the run and is raised here. Closing the generator ends the work in flight.
        """
        ...
