"""One writer per run directory: who holds it, and the fence that stops an attempt that a newer one has replaced.

A node whose slurmd died keeps running its old script beside the requeued one, so the claim is read again before every
checkpoint, row or status write.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

from sam2ft.core.errors import ClaimedError
from sam2ft.core.files import read_json, remove_partial, write_json
from sam2ft.core.layout import RunLayout

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
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(**{name: value[name] for name in cls.__dataclass_fields__})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def name(self) -> str:
        """Unique among the attempts of a run; a file name."""
        when = re.sub(r"[^0-9]", "", self.started)[:14]
        return f"{self.job}-{self.restart}" if self.job != LOCAL else f"{LOCAL}-{when}-{self.pid}"

    def is_dead(self) -> bool:
        """Whether this attempt is known to be gone: it ran on this host and its process is no more."""
        return self.host == socket.gethostname() and not _alive(self.pid)

    def is_alive_here(self) -> bool:
        return self.host == socket.gethostname() and _alive(self.pid)

    def __str__(self) -> str:
        return f"job {self.job} (restart {self.restart}, {self.host}, process {self.pid})"


def slurm_job_id(environment: Mapping[str, str]) -> str | None:
    """`<array>_<task>` inside an array, the plain id else, None outside Slurm."""
    if "SLURM_ARRAY_JOB_ID" in environment and "SLURM_ARRAY_TASK_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def holder(layout: RunLayout) -> Attempt | None:
    """The attempt that holds the run, or None when nobody ever did."""
    return Attempt.from_json(read_json(layout.claim)) if layout.claim.is_file() else None


def claim(layout: RunLayout, attempt: Attempt) -> None:
    """Make `attempt` the only writer of the run, and remove what killed writers before it left half written.

    Errors: ClaimedError when a later restart of the same job holds it, or when another process of this host that is
    still alive does.
    """
    current = holder(layout)
    if current is not None and current != attempt:
        if current.job == attempt.job != LOCAL and current.restart > attempt.restart:
            raise ClaimedError(f"{layout.folder}: {current} has taken over from {attempt}")
        if current.is_alive_here() and current.pid != attempt.pid and current.job == attempt.job == LOCAL:
            raise ClaimedError(f"{layout.folder}: {current} is working on it; stop that process or wait for its end")
    write_json(layout.claim, attempt.to_json())
    remove_partial(layout.folder)


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
