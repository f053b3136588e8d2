"""The leaderboard: a benchmark run as one self-contained page, and as Markdown, LaTeX and CSV."""

from benchmarks.leaderboard.page import write

__all__ = ["write"]
