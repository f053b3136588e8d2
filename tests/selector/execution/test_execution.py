"""Engines: one contract for all of them, and what only worker processes have to survive."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from augmentations import InputError
from selector.execution import execution
from selector.execution.execution import LocalWorkers, ThisProcess, WorkerDiedError, engine, in_threads, one_thread

ITEMS = list(range(5))


def tell(folder):
    """A function that leaves a file of what it finds in its process; local, so that it travels by value."""

    def function(item):
        import json
        import os
        import uuid

        import torch
        from threadpoolctl import threadpool_info

        found = {
            "item": item,
            "pid": os.getpid(),
            "torch": torch.get_num_threads(),
            "pools": [pool["num_threads"] for pool in threadpool_info()],
            "openmp": os.environ.get("OMP_NUM_THREADS"),
        }
        (folder / uuid.uuid4().hex).write_text(json.dumps(found))

    return function


def told(folder):
    import json

    return [json.loads(path.read_text()) for path in folder.iterdir()]


@pytest.fixture
def light(monkeypatch):
    """Workers that do not load torch first: a tenth of a second each, not several."""

    def begin(parent):
        pass

    monkeypatch.setattr(execution, "_begin_worker", begin)


class EngineContract:
    @pytest.fixture(scope="class")
    @classmethod
    def ran(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("told")
        before = torch.get_num_threads()
        outcomes = list(cls.make().run(tell(folder), ITEMS))
        return outcomes, told(folder), before, torch.get_num_threads()

    def test_every_item_comes_back_once(self, ran):
        outcomes, _, _, _ = ran
        assert sorted(item for item, _ in outcomes) == ITEMS
        assert all(error is None for _, error in outcomes)

    def test_every_item_is_worked_on_once(self, ran):
        assert sorted(found["item"] for found in ran[1]) == ITEMS

    def test_numeric_libraries_have_one_thread(self, ran):
        for found in ran[1]:
            assert found["torch"] == 1
            assert set(found["pools"]) == {1}

    def test_the_callers_threads_are_as_before(self, ran):
        _, _, before, after = ran
        assert before == after

    def test_no_items_are_no_work(self):
        assert list(self.make().run(tell(None), [])) == []

    def test_what_the_function_raises_is_raised(self, light):
        def function(item):
            if item == 1:
                raise KeyError("the item's own mistake")

        with pytest.raises(KeyError, match="own mistake"):
            list(self.make().run(function, ITEMS))

    def test_an_item_may_be_anything_picklable(self, light):
        items = [{"a": 1}, ("b", 2), Path("c")]
        found = [item for item, _ in self.make().run(lambda item: None, items)]
        assert sorted(map(str, found)) == sorted(map(str, items))


class TestThisProcess(EngineContract):
    @staticmethod
    def make():
        return ThisProcess()

    def test_works_here_in_order(self, tmp_path):
        outcomes = list(ThisProcess().run(tell(tmp_path), ITEMS))
        assert [item for item, _ in outcomes] == ITEMS
        assert {found["pid"] for found in told(tmp_path)} == {os.getpid()}

    def test_an_item_starts_when_the_one_before_was_taken(self):
        started = []
        outcomes = ThisProcess().run(started.append, ITEMS)
        next(outcomes)
        assert started == [0]
        outcomes.close()
        assert started == [0]

    def test_the_consumer_has_its_threads_between_items(self):
        before = torch.get_num_threads()
        for _ in ThisProcess().run(lambda item: None, ITEMS):
            assert torch.get_num_threads() == before

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_threads_are_restored_after_an_error(self, error):
        before = torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]

        def function(item):
            raise error

        with pytest.raises(error):
            list(ThisProcess().run(function, ITEMS))
        assert (torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]) == before


class TestLocalWorkers(EngineContract):
    @staticmethod
    def make():
        return LocalWorkers(2)

    def test_works_elsewhere(self, ran):
        pids = {found["pid"] for found in ran[1]}
        assert os.getpid() not in pids
        assert len(pids) <= 2
        assert {found["openmp"] for found in ran[1]} == {"1"}

    def test_starts_no_more_workers_than_there_are_items(self, light, monkeypatch):
        asked, pool = [], execution._pool
        monkeypatch.setattr(execution, "_pool", lambda jobs: asked.append(jobs) or pool(jobs))
        list(LocalWorkers(64).run(lambda item: None, [1]))
        assert asked == [1]

    def test_an_exception_that_cannot_travel_is_no_dead_worker(self, light):
        def function(item):
            class OddError(Exception):
                def __init__(self, one, two):
                    super().__init__(one)

            raise OddError("one", "two")

        with pytest.raises(Exception, match="un-serialize"):
            list(LocalWorkers(1).run(function, [1]))

    def test_a_consumer_that_stops_early_ends_the_work_in_flight(self, light, tmp_path):
        def function(item):
            (tmp_path / f"pid {os.getpid()}").touch()
            if item > 0:
                time.sleep(60)

        started = time.monotonic()
        outcomes = LocalWorkers(2).run(function, ITEMS)
        assert next(outcomes) == (0, None)
        outcomes.close()
        assert time.monotonic() - started < 20
        assert_gone(tmp_path)

    def test_an_interrupt_ends_the_work_in_flight(self, light, tmp_path, monkeypatch):
        def function(item):
            (tmp_path / f"pid {os.getpid()}").touch()
            time.sleep(60)

        def interrupted(futures, return_when):
            while len(list(tmp_path.iterdir())) < 2:
                time.sleep(0.05)
            raise KeyboardInterrupt

        monkeypatch.setattr(execution, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(LocalWorkers(2).run(function, ITEMS))
        assert_gone(tmp_path)


class TestDeadWorkers:
    def test_a_worker_killed_once_costs_a_retry(self, light, tmp_path):
        def function(item):
            with (tmp_path / str(item)).open("a") as file:
                file.write("tried ")
            if item == 2 and (tmp_path / "2").read_text() == "tried ":
                os.kill(os.getpid(), signal.SIGKILL)

        outcomes = list(LocalWorkers(2).run(function, ITEMS))
        assert sorted(item for item, _ in outcomes) == ITEMS
        assert all(error is None for _, error in outcomes)
        assert (tmp_path / "2").read_text() == "tried tried "
        tries = [len((tmp_path / str(item)).read_text().split()) for item in ITEMS]
        assert sum(tries) <= len(ITEMS) + 2  # the killer and, at most, the one that was in flight beside it

    def test_an_item_that_always_kills_its_worker_is_the_only_one_to_fail(self, light):
        def function(item):
            if item == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        outcomes = dict(LocalWorkers(2).run(function, ITEMS))
        assert sorted(outcomes) == ITEMS
        assert isinstance(outcomes.pop(1), WorkerDiedError)
        assert set(outcomes.values()) == {None}

    def test_what_was_done_before_the_crash_is_not_done_again(self, light, tmp_path):
        """An item that came through just before its neighbour's worker died, both seen at once."""

        def function(item):
            with (tmp_path / str(item)).open("a") as file:
                file.write("tried ")
            if item == 0:
                time.sleep(1)
                os.kill(os.getpid(), signal.SIGKILL)

        outcomes = LocalWorkers(2).run(function, [0, 1])
        first = next(outcomes)
        time.sleep(2)
        assert first == (1, None)
        rest = dict(outcomes)
        assert isinstance(rest[0], WorkerDiedError)
        assert (tmp_path / "1").read_text() == "tried "

    def test_all_items_kill_their_workers(self, light):
        def function(item):
            os.kill(os.getpid(), signal.SIGKILL)

        outcomes = dict(LocalWorkers(2).run(function, [0, 1]))
        assert all(isinstance(error, WorkerDiedError) for error in outcomes.values())
        assert set(outcomes) == {0, 1}


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("jobs", [0, -1, 1.5, "2", True])
def test_a_wrong_number_of_jobs_is_refused(jobs):
    with pytest.raises(InputError, match="jobs="):
        engine(jobs, torch.device("cpu"))


def test_the_engine_fits_the_jobs_and_the_device(monkeypatch):
    assert isinstance(engine(1, torch.device("cpu")), ThisProcess)
    assert engine(3, torch.device("cpu")).jobs == 3
    assert isinstance(engine(None, torch.device("cuda")), ThisProcess)
    monkeypatch.setattr(execution.joblib, "cpu_count", lambda: 4)
    assert engine(None, torch.device("cpu")).jobs == 4


def until(holds, seconds):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def assert_gone(folder):
    pids = [int(path.name.removeprefix("pid ")) for path in folder.iterdir()]
    assert pids
    until(lambda: not any(map(alive, pids)), seconds=10)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_threads_give_results_in_order_and_have_one_thread_each():
    before, seen = torch.get_num_threads(), []

    def work(i):
        seen.append((threading.get_ident(), torch.get_num_threads()))
        time.sleep(0.02 * (5 - i))
        return i

    try:
        torch.set_num_threads(3)
        assert in_threads(work, range(6)) == list(range(6))
        assert {threads for _, threads in seen} == {1}
        assert 1 < len({ident for ident, _ in seen}) <= 3
        seen.clear()
        assert in_threads(work, range(3), at_once=1) == list(range(3))
        assert len({ident for ident, _ in seen}) == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
