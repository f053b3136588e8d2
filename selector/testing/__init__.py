"""Contract suites for people who write their own parts: inherit one in a test file and say what is under test."""
