"""Rank and world size of this process from the variables of Slurm or torchrun. No torch."""

import os


def rank() -> int:
    """Return the rank of this process within the job, from the variables of torchrun or Slurm."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def world_size() -> int:
    """Return the number of processes; SLURM_NTASKS counts only inside a job step, where the other tasks exist."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ["SLURM_NTASKS"]) if "SLURM_STEP_ID" in os.environ else 1


def is_main_rank() -> bool:
    """Whether this process has rank 0."""
    return rank() == 0
