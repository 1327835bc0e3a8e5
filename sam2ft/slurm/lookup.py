"""Lookup of Slurm job ids by job name, used to find jobs whose submission was not recorded."""

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from sam2ft.core.errors import UserError
from sam2ft.slurm.answers import answer_of

NO_QUEUE = "squeue does not answer; nothing is submitted, because it could be submitted a second time"


class SubmissionError(UserError):
    """Slurm refused a job, or does not answer when the jobs of an experiment are looked up."""


def ids_by_name(names: Collection[str], since: str, users: Collection[int]) -> dict[str, str]:
    """Return job name -> job id (of the whole array) for those of `names` that were submitted.

    squeue is asked first (including jobs that ended a moment ago), then sacct where there is accounting. A job that
    neither lists was never submitted, or ended long ago on a cluster without accounting; then the run's own files
    contain its final state.

    Args:
        since: earliest submission time, UTC, ISO 8601.
        users: user ids of those who may have submitted the jobs.

    Raises:
        SubmissionError: squeue does not answer.
    """
    whose = ",".join(str(user) for user in sorted(users))
    queued = answer_of("squeue", "-h", "-u", whose, "-t", "all", "-o", "%F|%j")
    if queued is None:
        raise SubmissionError(NO_QUEUE)
    found = _parsed(queued, names)
    if missing := set(names) - found.keys():
        # Two days earlier, because clocks may differ; the default start of sacct is today at midnight.
        start = (datetime.fromisoformat(since).astimezone(UTC) - timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%S")
        wanted = ",".join(sorted(missing))
        command = ("sacct", "-X", "-n", "-P", "-u", whose, "-S", start, f"--name={wanted}", "-o", "JobID,JobName")
        found |= _parsed(answer_of(*command) or "", missing)
    return found


def _parsed(text: str, names: Collection[str]) -> dict[str, str]:
    """Lines `<id>|<name>`, where the id may be `17`, `17_3` or `17_[0-4%2]`."""
    found = {}
    for line in text.splitlines():
        job, _, name = line.strip().partition("|")
        if name in names and (digits := re.match(r"\d+", job)):
            found[name] = digits[0]
    return found
