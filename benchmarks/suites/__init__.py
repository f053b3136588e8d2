"""Suites: which tasks, zoos and seeds a leaderboard is made of, and their runs."""
