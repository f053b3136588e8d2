"""Numeric work in threads of this process."""

import threading
import time

import pytest
import torch

from selector.execution.threads import in_threads, one_thread


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_one_thread_lasts_as_long_as_its_block(three_threads):
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="mine"), one_thread():
        raise ValueError("mine")
    assert torch.get_num_threads() == 3


class TestInThreads:
    def test_results_are_in_order_and_each_thread_computes_in_one(self, three_threads):
        calls = []

        def work(i):
            calls.append((threading.get_ident(), torch.get_num_threads()))
            time.sleep(0.02 * (5 - i))
            return i

        assert in_threads(work, range(6)) == list(range(6))
        assert {threads for _, threads in calls} == {1}
        assert 1 < len({thread for thread, _ in calls}) <= 3
        assert torch.get_num_threads() == 3

    def test_at_once_bounds_the_threads(self, three_threads):
        calls = []
        assert in_threads(lambda i: calls.append(threading.get_ident()), range(3), at_once=1) == [None] * 3
        assert len(set(calls)) == 1

    def test_what_is_raised_is_raised_here(self, three_threads):
        def work(i):
            raise KeyError(i)

        with pytest.raises(KeyError):
            in_threads(work, range(3))
        assert torch.get_num_threads() == 3
