"""Which engine a user means."""

import joblib
import pytest
import torch

from augmentations import InputError
from selector.execution import Engine, LocalWorkers, Serial, resolve_engine

CPU = torch.device("cpu")


class Mine:
    def run(self, function, items):
        for item in items:
            function(item)
            yield item, None


def test_an_engine_is_what_has_run():
    assert isinstance(Mine(), Engine)
    assert not isinstance(object(), Engine)


def test_one_worker_is_this_process():
    assert isinstance(resolve_engine(None, 1, CPU), Serial)


def test_the_number_of_workers_is_that_of_jobs():
    engine = resolve_engine(None, 3, CPU)
    assert isinstance(engine, LocalWorkers)
    assert engine.jobs == 3


def test_by_default_it_is_one_worker_per_core_or_one_per_device(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 4)
    assert resolve_engine(None, None, CPU).jobs == 4
    assert isinstance(resolve_engine(None, None, torch.device("cuda")), Serial)


def test_an_engine_of_the_users_own_is_taken_as_it_is():
    mine = Mine()
    assert resolve_engine(mine, None, CPU) is mine


@pytest.mark.parametrize("jobs", [0, -1, 1.5, "2", True])
def test_a_wrong_number_of_jobs_is_refused(jobs):
    with pytest.raises(InputError, match="jobs="):
        resolve_engine(None, jobs, CPU)


def test_an_engine_and_a_number_of_workers_are_refused():
    with pytest.raises(InputError, match=r"jobs=2.*an engine was given"):
        resolve_engine(Mine(), 2, CPU)


@pytest.mark.parametrize("engine", ["tcp://host:8786", object(), 3])
def test_what_is_no_engine_is_refused(engine):
    with pytest.raises(InputError, match=r"must be an object with run\(function, items\)"):
        resolve_engine(engine, None, CPU)
