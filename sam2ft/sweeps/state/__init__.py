"""The state of every run, concluded from its status file, Slurm's queue and accounting; the sources of a report."""
