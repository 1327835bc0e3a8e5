"""Slurm itself: site files, batch scripts, sbatch, queue, accounting, limits. What is submitted, and what becomes
of it, is in sweeps/.
"""
