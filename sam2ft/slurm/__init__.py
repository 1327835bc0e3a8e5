"""Interface to Slurm: site files, batch scripts, sbatch, queue (squeue), accounting (sacct), partition limits. Which
jobs are submitted, and the state of each run, is in sweeps/.
"""
