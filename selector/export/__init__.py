"""The chosen detector as programs that run without this package."""

from selector.export.export import export
from selector.export.formats import ExportError

__all__ = ["ExportError", "export"]
