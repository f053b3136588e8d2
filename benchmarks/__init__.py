"""What proves a selection: data sets with labels, and evaluation by them. No other package sees any."""

from benchmarks.datasets.registry import LOADERS, load, names
from benchmarks.tasks.task import Task

__all__ = ["LOADERS", "Task", "load", "names"]
