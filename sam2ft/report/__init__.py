"""The report of an experiment: tables of all runs, their comparison, the page, plots and texts for papers. It is
handed what became of each run as plain values; finding that out is in sweeps/state.
"""
