"""Execution of one run of a plan in a process (claim, training, evaluation, ending), and short calibration jobs.
Submission and monitoring of jobs are in sweeps/.
"""
