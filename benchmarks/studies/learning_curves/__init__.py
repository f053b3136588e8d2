"""Learning curves: how the regret of a choice grows with fewer images, fewer anomalies, and a shift of normal images.

``factors``: which images a selection sees at each setting. ``regrets``: the regret of its choice. ``figures``: the
curves drawn. ``study``: all of it in a folder.
"""

from benchmarks.studies.learning_curves.study import write

__all__ = ["write"]
