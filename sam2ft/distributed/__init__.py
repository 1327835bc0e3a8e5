"""Distributed training (DDP): ranks, the launcher's environment (addresses and ports), rendezvous of the processes of a
job, stop signals, and detection of a failed process. Slurm's queue and batch scripts are in slurm/.
"""
