"""Worker processes: what they do beyond the contract of engines, and what they survive."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selector.execution import LocalWorkers, WorkerDiedError, local
from selector.testing.engine import EngineContract

ITEMS = list(range(5))


@pytest.fixture(autouse=True)
def light(request, monkeypatch):
    """Workers that do not load torch first: a tenth of a second each, not several. Not where threads are counted."""
    if "records" not in request.fixturenames:
        monkeypatch.setattr(local, "_begin_worker", lambda parent: None)


class TestLocalWorkers(EngineContract):
    survives_killed_workers = True

    def engine(self):
        return LocalWorkers(2)

    def test_it_works_in_other_processes(self, records):
        pids = {record["pid"] for record in records}
        assert os.getpid() not in pids
        assert len(pids) <= 2
        assert {record["openmp"] for record in records} == {"1"}


def test_no_more_workers_are_started_than_there_are_items(monkeypatch):
    sizes, pool = [], local._pool
    monkeypatch.setattr(local, "_pool", lambda jobs: sizes.append(jobs) or pool(jobs))
    list(LocalWorkers(64).run(lambda item: None, [1]))
    assert sizes == [1]


def test_an_exception_that_cannot_travel_is_no_dead_worker():
    def function(item):
        class OddError(Exception):
            def __init__(self, one, two):
                super().__init__(one)

        raise OddError("one", "two")

    with pytest.raises(Exception, match="un-serialize"):
        list(LocalWorkers(1).run(function, [1]))


class TestWorkInFlight:
    def test_it_ends_when_the_consumer_stops_early(self, tmp_path):
        def function(item):
            (tmp_path / f"pid {os.getpid()}").touch()
            if item > 0:
                time.sleep(60)

        started = time.monotonic()
        outcomes = LocalWorkers(2).run(function, ITEMS)
        assert next(outcomes) == (0, None)
        outcomes.close()
        assert time.monotonic() - started < 20
        assert_ended(tmp_path)

    def test_it_ends_after_an_interrupt(self, tmp_path, monkeypatch):
        def function(item):
            (tmp_path / f"pid {os.getpid()}").touch()
            time.sleep(60)

        def interrupted(futures, return_when):
            until(lambda: len(list(tmp_path.iterdir())) == 2, seconds=60)
            raise KeyboardInterrupt

        monkeypatch.setattr(local, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(LocalWorkers(2).run(function, ITEMS))
        assert_ended(tmp_path)


class TestDeadWorkers:
    def test_a_worker_killed_once_costs_a_retry(self, tmp_path):
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

    def test_what_was_done_before_the_crash_is_not_done_again(self, tmp_path):
        """An item that came through just before its neighbour's worker died, both noticed at once."""

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

    def test_all_items_kill_their_workers(self):
        def function(item):
            os.kill(os.getpid(), signal.SIGKILL)

        outcomes = dict(LocalWorkers(2).run(function, [0, 1]))
        assert all(isinstance(error, WorkerDiedError) for error in outcomes.values())
        assert set(outcomes) == {0, 1}


def test_a_dead_workers_own_words_are_quoted_and_passed_on(capfd):
    def function(item):
        os.write(2, b"the driver gave up: code 13\n")
        os.abort()

    ((_, error),) = LocalWorkers(1).run(function, [0])
    assert "SIGABRT" in str(error)
    assert '"the driver gave up: code 13"' in str(error) or '"Fatal Python error: Aborted"' in str(error)
    assert "memory" not in str(error)
    assert "the driver gave up: code 13" in capfd.readouterr().err


def test_a_worker_killed_without_a_word_is_said_to_be(capfd):
    ((_, error),) = LocalWorkers(1).run(signal.raise_signal, [signal.SIGKILL])
    assert "SIGKILL" in str(error)
    assert "short of memory" in str(error)


SHADOWED = """
import os, sys
import selector.execution.local as local

def work(item):
    import my_part, signal, queue, random
    assert my_part.NAME == "mine"
    open(item, "w").write(repr([sys.path.index(os.getcwd()) == len(sys.path) - 1, signal.__file__, queue.__file__]))

local._begin_worker = lambda parent: None
os.chdir(sys.argv[1])
without = [entry for entry in sys.path if entry and entry != sys.argv[1]]
for place, with_it in {"last": [*without, os.getcwd()], "first": ["", *without]}.items():
    sys.path[:] = with_it
    print([error for _, error in local.LocalWorkers(2).run(work, [f"a {place}", f"b {place}"])])
"""


def test_code_in_the_working_folder_is_found_and_shadows_nothing(tmp_path):
    for name in ("signal", "queue", "random", "struct", "pickle", "socket", "torch", "numpy", "multiprocessing"):
        (tmp_path / f"{name}.py").write_text("print('my own script'); raise SystemExit(3)")
    (tmp_path / "my_part.py").write_text("NAME = 'mine'")
    script = tmp_path.parent / f"{tmp_path.name}.py"
    script.write_text(SHADOWED)
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "my own script" not in done.stdout + done.stderr
    assert done.stdout.splitlines() == ["[None, None]"] * 2
    for name in ("a last", "b last", "a first", "b first"):
        is_last, *modules = ast.literal_eval((tmp_path / name).read_text())
        assert is_last
        assert not any(str(tmp_path) in module for module in modules)


def until(holds, seconds):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def assert_ended(folder):
    pids = [int(path.name.removeprefix("pid ")) for path in folder.iterdir()]
    assert pids
    until(lambda: not any(map(alive, pids)), seconds=10)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
