"""One writer per run directory: who holds it, and the fence that stops an attempt that a newer one has replaced.

A node whose slurmd died keeps running its old script beside the requeued one, so the claim is read again before every
checkpoint, row or status write: by whoever writes, and once more by core/files between the sync of the new file and its
rename (`fenced`). No clock decides: within a job the restart count does, between jobs whoever claimed last.

What is left is the moment between that last look and the rename, a few microseconds of one process. An attempt that
is held up exactly there while it is replaced may still put one whole file in place afterwards, and finds out at its
next write. A resume file carries its step in its name, a part the digest of its weights, and both are the bytes that
the newer attempt would write; status.json and history.csv are written again by the newer attempt; best.pt could be an
older epoch's until the next better one. Half a file, or rows of two attempts in one file, cannot be.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sam2ft.core.errors import ClaimedError
from sam2ft.core.files import read_json, remove_partial, write_json
from sam2ft.runs.layout import RunLayout

LOCAL = "local"
MAX_RESTARTS = "SAM2FT_MAX_RESTARTS"
"""The variable from which the work knows how often its job may be requeued."""


@dataclass(frozen=True)
class Attempt:
    """One process (rank 0 of it) that works on a run."""

    job: str
    """Slurm's id of the job, `<array>_<task>` inside an array, or `local`."""
    restart: int
    """How often Slurm has requeued this job."""
    host: str
    pid: int
    started: str
    """UTC, ISO 8601."""
    birth: str = ""
    """Boot of the machine and start of the process: a pid may be another process by now. Empty: not known."""

    @classmethod
    def current(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The attempt that this process is, from Slurm's variables."""
        variables = os.environ if environment is None else environment
        return cls(
            job=slurm_job_id(variables) or LOCAL,
            restart=int(variables.get("SLURM_RESTART_COUNT", "0")),
            host=socket.gethostname(),
            pid=os.getpid(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            birth=_birth(os.getpid()) or "",
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(**{name: value[name] for name in cls.__dataclass_fields__ if name in value})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def name(self) -> str:
        """Unique among the attempts of a run; a file name."""
        when = re.sub(r"[^0-9]", "", self.started)[:14]
        return f"{self.job}-{self.restart}" if self.job != LOCAL else f"{LOCAL}-{when}-{self.pid}"

    def is_dead(self) -> bool:
        """Whether this attempt is known to be gone: it ran on this host and its process is no more."""
        return self.host == socket.gethostname() and not _alive(self.pid, self.birth)

    def is_alive_here(self) -> bool:
        return self.host == socket.gethostname() and _alive(self.pid, self.birth)

    def __str__(self) -> str:
        return f"job {self.job} (restart {self.restart}, {self.host}, process {self.pid})"


def slurm_job_id(environment: Mapping[str, str]) -> str | None:
    """`<array>_<task>` inside an array, the plain id else, None outside Slurm."""
    if "SLURM_ARRAY_JOB_ID" in environment and "SLURM_ARRAY_TASK_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID")


def _alive(pid: int, birth: str) -> bool:
    now = _birth(pid)
    if now is not None:
        return not birth or birth == now
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # Without /proc the pid is all that is known; with it, a process that has no birth is a zombie.
    return not Path("/proc/self/stat").exists()


def _birth(pid: int) -> str | None:
    """Boot and start time of a process that runs, where Linux's /proc tells; None else."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # proc(5): the name, field 2, may hold anything; after it field 3 is the state, field 22 the start.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def holder(layout: RunLayout) -> Attempt | None:
    """The attempt that holds the run, or None when nobody ever did."""
    return Attempt.from_json(read_json(layout.claim)) if layout.claim.is_file() else None


def claim(layout: RunLayout, attempt: Attempt) -> None:
    """Make `attempt` the only writer of the run, and remove what killed writers before it left half written.

    Errors: ClaimedError when a later restart of the same job holds it or held it, or when another process of this host,
    of the same job or both outside Slurm, is at work on it.
    """
    current = holder(layout)
    replaced = _replaced(layout)
    if current is not None and current != attempt:
        if replaced.get(attempt.job, 0) > attempt.restart:
            raise ClaimedError(f"{layout.folder}: a later restart has taken over from {attempt}; now held by {current}")
        same = (current.job, current.restart) == (attempt.job, attempt.restart)
        if same and current.pid != attempt.pid and current.is_alive_here():
            raise ClaimedError(f"{layout.folder}: {current} is working on it; stop that process or wait for its end")
    write_json(layout.claim, {**attempt.to_json(), "restarts": replaced | {attempt.job: attempt.restart}})
    remove_partial(layout.folder)


def _replaced(layout: RunLayout) -> dict[str, int]:
    """The newest restart of every job of Slurm that ever held the run."""
    if not layout.claim.is_file():
        return {}
    found = read_json(layout.claim)
    jobs: dict[str, int] = {**found.get("restarts", {}), found["job"]: found["restart"]}
    jobs.pop(LOCAL, None)
    return jobs


def check_job(layout: RunLayout, attempt: Attempt) -> None:
    """`check_claim` for the processes beside the one that claimed: theirs is another process of the same job."""
    current = holder(layout)
    if current is None or (current.job, current.restart) != (attempt.job, attempt.restart):
        raise ClaimedError(f"{layout.folder}: now held by {current or 'nobody'}; {attempt} stops without writing")


def check_claim(layout: RunLayout, attempt: Attempt) -> None:
    """Errors: ClaimedError when `attempt` no longer holds the run; nothing may be written to it then."""
    current = holder(layout)
    if current != attempt:
        raise ClaimedError(f"{layout.folder}: now held by {current or 'nobody'}; {attempt} stops without writing")
