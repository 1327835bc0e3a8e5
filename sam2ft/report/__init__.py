"""The report of an experiment: result tables of all runs, their comparison, the HTML page, plots and texts for
papers. The state of each run is passed in as plain values; sweeps/state determines it.
"""
