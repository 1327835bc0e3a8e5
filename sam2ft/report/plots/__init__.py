"""Plots of the HTML page as Vega-Lite specifications, and the same plots as SVG, PDF and PNG files."""
