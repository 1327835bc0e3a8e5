"""Answers of Slurm's programs to questions that may stay without one (squeue, sacct, scontrol)."""

import os
import subprocess

# Otherwise times are in the local zone, and lists of array tasks are cut at 64 characters.
_FORMATS = {"TZ": "UTC0", "SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard"}


def answer_of(*command: str, timeout_s: float = 60) -> str | None:
    """Return the standard output of a program, with times in UTC.

    None when it is not installed, fails, or does not end in time.
    """
    environment = {**os.environ, **_FORMATS}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
