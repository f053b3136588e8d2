"""What every engine must do, wherever it works."""

import json
import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from threadpoolctl import threadpool_info

from selector.execution import Engine, WorkerDiedError, resolve_engine

N_ITEMS = 5
LONG = 60  # seconds that nothing may wait for
SOON = 20  # seconds in which work in flight has to end

RECORDS: dict[type, list[dict[str, Any]]] = {}


def record_process(folder: Path) -> None:
    """Leave a file in a folder about the process that this runs in."""
    record = {
        "item": folder.name,
        "pid": os.getpid(),
        "torch": torch.get_num_threads(),
        "pools": [pool["num_threads"] for pool in threadpool_info()],
        "openmp": os.environ.get("OMP_NUM_THREADS"),
    }
    (folder / f"{uuid.uuid4().hex}.json").write_text(json.dumps(record))


class EngineContract:
    """Tests that every engine must pass.

    Inherit, and say in ``engine`` what is under test. Where workers are other machines, pytest's temporary folders
    must be within their reach (``--basetemp``).

    survives_killed_workers: whether the other items are done though the process that works on one is killed. An engine
    that works in the caller's own process can't say so.

    Example, in a file that pytest collects:

        class TestMine(EngineContract):
            def engine(self):
                return Mine(workers=2)
    """

    survives_killed_workers: ClassVar[bool] = False

    def engine(self) -> Engine:
        """The engine under test."""
        raise NotImplementedError

    @pytest.fixture
    def folders(self, tmp_path: Path) -> list[Path]:
        """Names of folders that are not there yet: items for ``os.mkdir``, which fails where it is called twice."""
        return [tmp_path / str(i) for i in range(N_ITEMS)]

    @pytest.fixture
    def records(self, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
        """What ``record_process`` left in the processes that worked on items; run once for all tests of a class."""
        if type(self) not in RECORDS:
            root = tmp_path_factory.mktemp("records")
            items = [root / str(i) for i in range(N_ITEMS)]
            for item in items:
                item.mkdir()
            assert all(error is None for _, error in self.engine().run(record_process, items))
            RECORDS[type(self)] = [json.loads(path.read_text()) for path in sorted(root.glob("*/*.json"))]
        return RECORDS[type(self)]

    def test_it_is_an_engine(self):
        engine = self.engine()
        assert isinstance(engine, Engine)
        assert resolve_engine(engine, None, torch.device("cpu")) is engine

    def test_every_item_comes_back_once_and_its_work_is_done_by_then(self, folders):
        done = []
        for folder, error in self.engine().run(os.mkdir, folders):
            assert error is None
            assert folder.is_dir()
            done.append(folder)
        assert sorted(done) == folders

    def test_every_item_is_worked_on_once(self, records):
        assert [record["item"] for record in records] == [str(i) for i in range(N_ITEMS)]

    def test_numeric_libraries_have_one_thread(self, records):
        """Sums depend on the number of threads, and results must not depend on the engine."""
        for record in records:
            assert record["torch"] == 1
            assert set(record["pools"]) <= {1}

    def test_the_callers_threads_are_as_before(self, folders):
        before = thread_counts()
        for _ in self.engine().run(os.mkdir, folders):
            assert thread_counts() == before
        assert thread_counts() == before

    def test_no_items_are_no_work(self):
        assert list(self.engine().run(os.mkdir, [])) == []

    def test_an_item_may_be_anything_picklable(self):
        items: list[Any] = [{"a": 1}, ("b", 2), Path("c"), None]
        items_done = [item for item, _ in self.engine().run(bool, items)]  # type: ignore[arg-type]
        assert sorted(map(str, items_done)) == sorted(map(str, items))

    def test_what_the_function_raises_is_raised(self, folders):
        before = thread_counts()
        with pytest.raises(FileNotFoundError, match="2"):
            list(self.engine().run(os.rmdir, _make_folders(folders, but=2)))
        assert thread_counts() == before

    def test_closing_ends_the_work_in_flight(self):
        started = time.monotonic()
        outcomes = self.engine().run(time.sleep, [0, LONG, LONG, LONG])
        assert next(outcomes) == (0, None)
        outcomes.close()
        assert time.monotonic() - started < SOON

    def test_it_can_be_used_again(self, folders):
        engine = self.engine()
        assert len(list(engine.run(os.mkdir, folders))) == N_ITEMS
        assert len(list(engine.run(os.rmdir, folders))) == N_ITEMS
        assert not any(folder.exists() for folder in folders)

    def test_an_item_that_always_kills_its_worker_is_the_only_one_to_fail(self):
        if not self.survives_killed_workers:
            pytest.skip("this engine does not survive the worker of an item")
        no_signal = 0
        outcomes = list(self.engine().run(signal.raise_signal, [no_signal, signal.SIGKILL, no_signal]))
        failures = [(item, error) for item, error in outcomes if error is not None]
        assert [item for item, _ in failures] == [signal.SIGKILL]
        assert isinstance(failures[0][1], WorkerDiedError)
        assert len(outcomes) == 3


def thread_counts() -> tuple[int, list[int]]:
    """The threads of torch and of every numeric library in this process."""
    return torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]


def _make_folders(folders: list[Path], but: int) -> list[Path]:
    """Make all folders but one, and return all."""
    for i, folder in enumerate(folders):
        if i != but:
            folder.mkdir()
    return folders
