"""Processes of one job: their ranks, how they find each other, how they stop together, and how a failure of one
ends all. Slurm's queue and batch scripts are in slurm/.
"""
