"""A benchmark's results as a static page, or its leaderboard as CSV, Markdown or JSON."""
