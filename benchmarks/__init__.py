"""What evaluates selections: data sets with labels. No other package sees any labels."""

from benchmarks.datasets.registry import LOADERS, load, names
from benchmarks.tasks.task import Task

__all__ = ["LOADERS", "Task", "load", "names"]
