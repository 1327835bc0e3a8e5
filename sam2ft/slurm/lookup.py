"""Slurm's ids of jobs whose names are known: how a submission that was not written down is found again."""

import re
import subprocess
from collections.abc import Collection
from datetime import datetime, timedelta

from sam2ft.core.errors import UserError

NO_QUEUE = "squeue does not answer; nothing is submitted, because it could be submitted a second time"
_TIMEOUT_S = 60


class SubmissionError(UserError):
    """Slurm refused a job, or cannot be asked what became of one."""


def ids_by_name(names: Collection[str], since: str, users: Collection[int]) -> dict[str, str]:
    """Job name -> id (of the whole array), for those of `names` that `users` (ids) have submitted since `since` (UTC).

    The queue is asked, with jobs that ended a moment ago, and then the accounting where there is one. A job that
    neither knows was never submitted, or ended long ago without accounting: then the run's own files say what became
    of it.
    Errors: SubmissionError when the queue cannot be asked.
    """
    whose = ",".join(str(user) for user in sorted(users))
    queued = _asked("squeue", "-h", "-u", whose, "-t", "all", "-o", "%F|%j")
    if queued is None:
        raise SubmissionError(NO_QUEUE)
    found = _parsed(queued, names)
    if missing := set(names) - found.keys():
        # Local time; two days for clocks that differ, and because the default begins today at midnight.
        start = (datetime.fromisoformat(since).astimezone() - timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%S")
        wanted = ",".join(sorted(missing))
        command = ("sacct", "-X", "-n", "-P", "-u", whose, "-S", start, f"--name={wanted}", "-o", "JobID,JobName")
        found |= _parsed(_asked(*command) or "", missing)
    return found


def _parsed(text: str, names: Collection[str]) -> dict[str, str]:
    """Lines `<id>|<name>`, where the id may be `17`, `17_3` or `17_[0-4%2]`."""
    found = {}
    for line in text.splitlines():
        job, _, name = line.strip().partition("|")
        if name in names and (digits := re.match(r"\d+", job)):
            found[name] = digits[0]
    return found


def _asked(*command: str) -> str | None:
    """What a program of Slurm prints, or None when it is not there or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
