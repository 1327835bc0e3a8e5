"""One run of a plan as a process executes it: claim, training, evaluation, how it ends; and short calibration jobs.
Submitting and watching jobs is in sweeps/.
"""
