"""The report: a selection as one self-contained page, with CSV and JSON twins."""

from selector.report.page import write_report

__all__ = ["write_report"]
