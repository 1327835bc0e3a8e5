"""Which of the job's processes this one is, without torch."""

import os


def rank() -> int:
    """This process among those of the job, from Slurm's or torchrun's variables."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def world_size() -> int:
    """Number of those processes; SLURM_NTASKS counts only inside a step, where the other tasks exist."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ["SLURM_NTASKS"]) if "SLURM_STEP_ID" in os.environ else 1


def is_main_rank() -> bool:
    return rank() == 0
