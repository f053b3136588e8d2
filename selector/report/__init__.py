"""The report: a selection as one self-contained page, with its content as CSV and JSON beside it."""

from selector.report.page import write_report

__all__ = ["write_report"]
