"""Pictures by matplotlib: slices with contours, label sheets, charts, and the palette. Interactive plots of the
report are in report/plots.
"""
