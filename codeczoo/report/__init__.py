"""What a benchmark found, for people to look at: a static page, or its leaderboard as CSV, Markdown or JSON."""
