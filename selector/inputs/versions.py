"""Versions of what is installed."""

from importlib.metadata import PackageNotFoundError, version


def installed_version(library: str) -> str:
    """The version of a library, in words where it has none."""
    try:
        return version(library)
    except PackageNotFoundError:  # a copy of the source that was never installed
        return "not installed"
