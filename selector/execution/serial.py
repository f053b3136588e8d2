"""Everything in this process, one item after another."""

from collections.abc import Callable, Sequence

from selector.execution.base import Item, Outcomes
from selector.execution.threads import one_thread


class Serial:
    """This process, one thread."""

    def run(self, function: Callable[[Item], None], items: Sequence[Item]) -> Outcomes[Item]:
        for item in items:
            with one_thread():
                function(item)
            yield item, None
