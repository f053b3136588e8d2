"""Where the work is done: this process, local worker processes, threads, or an engine of the user's own."""

from typing import Any

import joblib
import torch

from augmentations import InputError
from augmentations.errors import whole_number
from selector.execution.base import Engine, WorkerDiedError
from selector.execution.local import LocalWorkers
from selector.execution.serial import Serial

__all__ = ["Engine", "LocalWorkers", "Serial", "WorkerDiedError", "resolve_engine"]


def resolve_engine(engine: Any, jobs: int | None, device: torch.device) -> Engine:
    """The engine that a user means.

    Args:
        engine: None for worker processes on this machine, or an object with ``run(function, items)``.
        jobs: the number of worker processes; None: one per core on the CPU, else one for the device.
        device: what candidates are trained on.
    Raises:
        InputError: for an object that is not an engine, a number of jobs below 1, and jobs together with an engine.
    """
    if engine is not None:
        if jobs is not None:
            raise InputError(
                f"jobs={jobs!r}", "is the number of local workers, and an engine was given", "leave one out"
            )
        if isinstance(engine, type) or not isinstance(engine, Engine):  # a class has the method too
            remedy = "leave it out, or see selector.execution.Engine"
            raise InputError(f"engine={engine!r}", "must be an object with run(function, items)", remedy)
        return engine
    if jobs is not None:
        whole_number("jobs", jobs, 1, "leave it out for one per core")
    if jobs is None:
        jobs = joblib.cpu_count() if device.type == "cpu" else 1
    return Serial() if jobs == 1 else LocalWorkers(jobs)
