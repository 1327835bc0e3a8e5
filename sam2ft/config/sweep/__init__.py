"""Expansion of the `sweep:` section into named points: grid, zip, list, random search, conditions and seeds. Pure:
reads and writes no files; jobs/preflight derives the runs from the points.
"""
