"""Matplotlib figures: slices with contours (QC overlays), label sheets, charts, colour palette. Interactive plots
of the report are in report/plots.
"""
