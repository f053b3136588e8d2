"""The chosen detector as programs that run without this package."""
