"""The two-stage family: kinds by scorers, with contaminated training and few labels, beside published numbers."""

from benchmarks.studies.two_stage.command import two_stage

__all__ = ["two_stage"]
