"""Questions asked of stored zoos beyond the leaderboard, each a command of its own."""
