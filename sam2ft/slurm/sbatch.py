"""Calling sbatch so that a launcher may be killed at any moment: one at a time, and the call itself holds the lock."""

import fcntl
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sam2ft.runs.layout import ExperimentLayout
from sam2ft.slurm.lookup import SubmissionError

_LOCK_WAIT_S = 120.0
"""A controller that is restarted answers sbatch after a minute or two."""
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
"""Variables that say where the cluster is and who asks."""
_DROPPED = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")
_DROPPED_NAMES = frozenset({"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"})
# sbatch gave up waiting, which does not say that the controller did not make the job.
_UNCERTAIN = re.compile(r"timed? ?out|unable to contact|zero bytes|connection|communication|try again", re.IGNORECASE)
PAUSES_S = (0.0, 1.0, 3.0, 6.0)
"""Waits before each look for a job that an uncertain sbatch may have made."""


@dataclass(frozen=True)
class SubmissionLock:
    """Held while sbatch is called for one experiment."""

    descriptor: int
    """File descriptor that holds the lock."""


@contextmanager
def submission_lock(layout: ExperimentLayout) -> Iterator[SubmissionLock]:
    """Hold the lock of an experiment's submissions while the block runs.

    The descriptor is handed on to each sbatch: when a launcher is killed, the lock ends with the sbatch that it leaves
    behind, and nobody looks for a job that is just being made. Errors: SubmissionError when somebody else holds it.
    """
    layout.submissions.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(layout.submission_lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _take(descriptor, layout)
        yield SubmissionLock(descriptor)
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
            said = f"this file system has no locks ({error.strerror}); on Lustre they come with the mount option flock"
            raise SubmissionError(f"{layout.submission_lock}: {said}") from None


def sbatch(lock: SubmissionLock, script: Path, find: Callable[[], str | None]) -> str:
    """Submit a script; returns Slurm's job id. `find` looks the job up by its name.

    Errors: SubmissionError with what sbatch said, after making sure that there is no job all the same.
    """
    command = ["sbatch", str(script)]
    environment = outside_of_any_job(os.environ)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, pass_fds=(lock.descriptor,)
        )
    except OSError as error:
        raise SubmissionError(f"sbatch does not start ({error})") from None
    answer = re.search(r"Submitted batch job (\d+)", done.stdout)
    if done.returncode == 0 and answer:
        return answer[1]
    said = (done.stderr or done.stdout).strip() or f"nothing, and ended with {done.returncode}"
    for pause_s in PAUSES_S if done.returncode == 0 or _UNCERTAIN.search(said) else PAUSES_S[:1]:
        time.sleep(pause_s)
        if (job := find()) is not None:
            return job
    raise SubmissionError(f"sbatch refused {script.stem}: {said}")


def outside_of_any_job(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without what an allocation would hand on to the new job, and what would overrule its script."""
    return {
        name: value
        for name, value in environment.items()
        if name in _KEPT or not (name.startswith(_DROPPED) or name in _DROPPED_NAMES)
    }
