"""Hyperparameter sweeps: plan, submission to Slurm or local pool, state of every run, status commands, aggregation."""
