"""Plots of the page as Vega-Lite specifications, and the same as SVG, PDF and PNG files."""
