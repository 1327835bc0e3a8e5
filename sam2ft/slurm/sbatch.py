"""Safe calls of sbatch: the submission lock, the environment of the call, and the check for an uncertain result.

The launcher may be killed at any moment: only one sbatch runs at a time, and the sbatch process itself holds the lock.
"""

import fcntl
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sam2ft.core.files import remove_partial
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.slurm.lookup import SubmissionError

_LOCK_WAIT_S = 120.0
"""A controller that is being restarted answers sbatch after one or two minutes."""
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
"""Variables with the address of the cluster and the user's token."""
_DROPPED = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")
_DROPPED_NAMES = frozenset({"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"})
# sbatch stopped waiting for the controller, which may have created the job all the same.
_UNCERTAIN = re.compile(r"timed? ?out|unable to contact|zero bytes|connection|communication|try again", re.IGNORECASE)
PAUSES_S = (0.0, 1.0, 3.0, 6.0)
"""Waits, in seconds, before each lookup of a job that a call of sbatch without a clear answer may have created."""


@contextmanager
def submission_lock(layout: ExperimentLayout) -> Iterator[int]:
    """Hold the lock of an experiment's submissions while the block runs; yields the file descriptor that holds it.

    The holder is the only writer there, and removes what killed ones left half written.

    Each sbatch process inherits the file descriptor: when a launcher is killed, the lock ends with the sbatch process
    that it started, so that no other launcher looks for a job that is just being created.

    Raises:
        SubmissionError: another launcher holds the lock, or the file system has no locks.
    """
    layout.submissions.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(layout.submission_lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _take(descriptor, layout)
        remove_partial(layout.submissions)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, layout: ExperimentLayout) -> None:
    last = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > last:
                raise SubmissionError(f"{layout.folder}: another launcher is submitting; try again") from None
            time.sleep(0.05)
        except OSError as error:
            text = f"this file system has no locks ({error.strerror}); Lustre needs the mount option flock"
            raise SubmissionError(f"{layout.submission_lock}: {text}") from None


def sbatch(lock: int, script: Path, find: Callable[[], str | None]) -> str:
    """Submit a batch script; returns Slurm's job id.

    Args:
        lock: file descriptor of the `submission_lock`, which the process of sbatch inherits.
        find: looks the job up by its name; returns its id, or None.

    Raises:
        SubmissionError: the message of sbatch, after checking that no job was created.
    """
    command = ["sbatch", str(script)]
    environment = outside_of_any_job(os.environ)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, pass_fds=(lock,))
    except OSError as error:
        raise SubmissionError(f"sbatch cannot be started ({error})") from None
    answer = re.search(r"Submitted batch job (\d+)", done.stdout)
    if done.returncode == 0 and answer:
        return answer[1]
    message = (done.stderr or done.stdout).strip() or f"no message, exit code {done.returncode}"
    for pause_s in PAUSES_S if done.returncode == 0 or _UNCERTAIN.search(message) else PAUSES_S[:1]:
        time.sleep(pause_s)
        if (job := find()) is not None:
            return job
    raise SubmissionError(f"sbatch refused {script.stem}: {message}")


def outside_of_any_job(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without the variables that a new job would inherit from an allocation.

    Variables that would override the options in the batch script (SBATCH_...) are removed too.
    """
    return {
        name: value
        for name, value in environment.items()
        if name in _KEPT or not (name.startswith(_DROPPED) or name in _DROPPED_NAMES)
    }
