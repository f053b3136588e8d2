"""The leaderboard: a benchmark run as one self-contained page, with Markdown, LaTeX and CSV twins."""

from benchmarks.leaderboard.page import write

__all__ = ["write"]
