"""Calls of Slurm's programs, and their answers to questions that may stay without one (squeue, sacct, scontrol)."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from sam2ft.core.errors import UserError

# Otherwise times are in the local zone, and lists of array tasks are cut at 64 characters.
_FORMATS = {"TZ": "UTC0", "SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard"}


def run_program(
    command: Sequence[str],
    *,
    timeout_s: float = 30,
    env: Mapping[str, str] | None = None,
    called: str = "",
    hint: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever its exit code.

    Args:
        called: what the message calls it; the whole command by default.
        hint: end of the message.

    Raises:
        UserError: it is not installed, or does not end in time.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, env=env)
    except (OSError, subprocess.TimeoutExpired) as error:
        what = called or f"`{' '.join(command)}`"
        raise UserError(f"{what} does not answer ({error}){hint}") from None


def answer_of(*command: str, timeout_s: float = 60) -> str | None:
    """Return the standard output of a program, with times in UTC.

    None when it is not installed, fails, or does not end in time.
    """
    try:
        done = run_program(command, timeout_s=timeout_s, env={**os.environ, **_FORMATS})
    except UserError:
        return None
    return done.stdout if done.returncode == 0 else None
