"""Submission to Slurm: job arrays, their dependencies and records, recovery after a killed launcher, throttling."""
