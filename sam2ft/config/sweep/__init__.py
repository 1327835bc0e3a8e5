"""The `sweep:` section: grids, random draws, conditions and seeds expanded into points with names. Pure; which runs
the points become is in jobs/preflight.
"""
