"""The engine that works in this process."""

import os

import pytest
import torch

from selector.execution import Serial
from selector.testing.engine import EngineContract, thread_counts

ITEMS = list(range(5))


class TestSerial(EngineContract):
    def engine(self):
        return Serial()

    def test_it_works_in_this_process(self, records):
        assert {record["pid"] for record in records} == {os.getpid()}

    def test_items_are_done_in_order(self):
        done = []
        assert [item for item, _ in Serial().run(done.append, ITEMS)] == ITEMS
        assert done == ITEMS

    def test_an_item_starts_when_the_one_before_was_taken(self):
        started = []
        outcomes = Serial().run(started.append, ITEMS)
        next(outcomes)
        assert started == [0]
        outcomes.close()
        assert started == [0]

    def test_items_have_one_thread_and_the_consumer_has_its_own_between_them(self):
        before, during = torch.get_num_threads(), []
        try:
            torch.set_num_threads(2)
            for _ in Serial().run(lambda item: during.append(torch.get_num_threads()), ITEMS):
                assert torch.get_num_threads() == 2
            assert set(during) == {1}
        finally:
            torch.set_num_threads(before)

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_threads_are_restored_after_an_error(self, error):
        before = thread_counts()

        def function(item):
            raise error

        with pytest.raises(error):
            list(Serial().run(function, ITEMS))
        assert thread_counts() == before
