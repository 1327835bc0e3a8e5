"""Comparison of the points of a sweep: scores, paired tests, effects of settings, learning curves, and number
formatting.
"""
