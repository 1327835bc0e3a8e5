"""Points of a sweep against each other: scores, paired tests, effects of settings, learning curves, and how numbers
are written.
"""
