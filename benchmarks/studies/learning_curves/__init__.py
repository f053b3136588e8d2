"""Curves: how the regret of a choice grows with fewer images, fewer anomalies, and normal images that shift.

``dials``: what a selection sees at each setting. ``regrets``: what its choice is worth. ``figures``: the curves drawn.
``writing``: all of it in a folder.
"""

from benchmarks.studies.learning_curves.writing import write

__all__ = ["write"]
