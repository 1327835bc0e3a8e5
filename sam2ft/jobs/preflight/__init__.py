"""Checks before a job starts: data, metrics, metadata and weights of every point at once, and the ids of runs."""
