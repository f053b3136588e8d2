"""Studies of stored zoos and of tasks beyond the leaderboard, each a command: `ssad benchmark study NAME`."""
