"""Contract suites for those who write parts of their own: inherit one, say what is under test, run pytest."""
