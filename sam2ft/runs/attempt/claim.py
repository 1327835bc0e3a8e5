"""Claim (lock with one writer per run directory): which attempt holds a run, and checks that stop a replaced attempt.

A node whose slurmd died keeps running its old script beside the requeued one. Therefore the claim is read again before
every write of a checkpoint, row or status: by the writer, and once more by core/files between the sync of the new file
and its rename (`fenced`). Clocks are not compared: within a job the restart count decides, between jobs the last claim.

One gap remains: the few microseconds between this last check and the rename. An attempt that is delayed exactly then,
while it is replaced, may still write one complete file; it is stopped at its next write. The name of a resume file
contains its step, a part contains the digest of its weights, and both have the bytes that the newer attempt would
write; status.json and history.csv are written again by the newer attempt; best.pt could be of an older epoch until the
next better one. Incomplete files, or rows of two attempts in one file, are impossible.
"""

import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sam2ft.core.digests.verified_files import RUN, OtherRunError, read_of_run, tell_damage, write_sealed_json
from sam2ft.core.errors import ClaimedError, DataError
from sam2ft.core.files import remove_partial
from sam2ft.runs.layout import RunLayout

LOCAL = "local"
MAX_RESTARTS = "SAM2FT_MAX_RESTARTS"
"""Environment variable with the number of times that the job may be requeued."""


@dataclass(frozen=True)
class Attempt:
    """One execution of a run, identified by the process of rank 0."""

    job: str
    """Slurm job id, `<array>_<task>` inside an array, or `local`."""
    restart: int
    """Number of times that Slurm has requeued this job."""
    host: str
    pid: int
    started: str
    """UTC, ISO 8601."""
    birth: str = ""
    """Boot id of the machine and start time of the process, because a pid can be reused. Empty: unknown."""

    @classmethod
    def current(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Return the attempt of this process, from the environment variables of Slurm."""
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
        """Name that is unique among the attempts of a run and valid as a file name."""
        when = re.sub(r"[^0-9]", "", self.started)[:14]
        return f"{self.job}-{self.restart}" if self.job != LOCAL else f"{LOCAL}-{when}-{self.pid}"

    def is_dead(self) -> bool:
        """Whether this attempt has certainly ended: it ran on this host and its process no longer exists."""
        return self.host == socket.gethostname() and not _alive(self.pid, self.birth)

    def is_alive_here(self) -> bool:
        """Whether the process of this attempt is running on this host."""
        return self.host == socket.gethostname() and _alive(self.pid, self.birth)

    def __str__(self) -> str:
        return f"job {self.job} (restart {self.restart}, {self.host}, process {self.pid})"


def slurm_job_id(environment: Mapping[str, str]) -> str | None:
    """Return `<array>_<task>` inside a job array, else the plain job id; None outside Slurm."""
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
    # Without /proc only the pid is known; with /proc, a process without a birth is a zombie.
    return not Path("/proc/self/stat").exists()


def _birth(pid: int) -> str | None:
    """Boot id and start time of a running process from /proc (Linux); else None."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # proc(5): field 2, the name, may contain any character; field 3 is the state, field 22 the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"


@dataclass(frozen=True)
class Claim:
    """The content of claim.json."""

    holder: Attempt
    restarts: Mapping[str, int]
    """The newest restart of every Slurm job that ever held the run."""


def read_claim(layout: RunLayout) -> Claim | None:
    """Read claim.json; None when no attempt ever claimed the run.

    Raises:
        DataError: the file is damaged, or not the claim of a run.
    """
    if not layout.claim.is_file():
        return None
    value = read_of_run(layout.claim, layout.run_id)
    try:
        holder = Attempt.from_json(value)
        restarts = {str(job): int(count) for job, count in value.get("restarts", {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{layout.claim}: not the claim of a run ({error})") from None
    return Claim(holder, _newest_restarts(restarts | {holder.job: holder.restart}))


def known_claim(layout: RunLayout) -> Claim | None:
    """`read_claim`; where the file is damaged, what provenance and status of the run say about its attempts.

    The claim of another run (a copied folder) holds nothing here; the check of the identity then says what differs.

    Raises:
        DataError: no other file says who held the run; the message names the remedy.
    """
    try:
        return read_claim(layout)
    except DataError as error:
        attempts = _recorded_attempts(layout)
        if not attempts and isinstance(error, OtherRunError):
            tell_damage(f"{error}; not used")
            return None
        if not attempts:
            remedy = "when no process is working on this run, remove the file"
            raise DataError(f"{error}; no other file of the run says who held it: {remedy}") from None
        tell_damage(f"{error}; its attempts are known from provenance.json and status.json")
        restarts: dict[str, int] = {}
        for one in attempts:
            restarts[one.job] = max(one.restart, restarts.get(one.job, 0))
        return Claim(attempts[-1], _newest_restarts(restarts))


def holder(layout: RunLayout) -> Attempt | None:
    """Return the attempt that holds the run by `known_claim`, or None when no attempt ever claimed it."""
    known = known_claim(layout)
    return known.holder if known else None


def _recorded_attempts(layout: RunLayout) -> list[Attempt]:
    """Attempts by the files that each of them writes at its start, that of status.json last."""
    found: list[Attempt] = []
    with suppress(DataError, KeyError, TypeError):
        found += [
            Attempt.from_json(one["attempt"]) for one in read_of_run(layout.provenance, layout.run_id)["attempts"]
        ]
    with suppress(DataError, KeyError, TypeError):
        found.append(Attempt.from_json(read_of_run(layout.status, layout.run_id)["attempt"]))
    return found


def _newest_restarts(restarts: Mapping[str, int]) -> dict[str, int]:
    """Without attempts outside of Slurm, which have no restarts."""
    return {job: count for job, count in restarts.items() if job != LOCAL}


def claim(layout: RunLayout, attempt: Attempt) -> None:
    """Make `attempt` the only writer of the run, and remove incomplete files of earlier killed writers.

    Raises:
        ClaimedError: a later restart of the same job holds or held the run, or another process of this host (of the
            same job, or both outside Slurm) is working on it.
        DataError: as `known_claim`.
    """
    known = known_claim(layout)
    current, replaced = (known.holder, dict(known.restarts)) if known else (None, {})
    if current is not None and current != attempt:
        if replaced.get(attempt.job, 0) > attempt.restart:
            raise ClaimedError(f"{layout.folder}: a later restart has taken over from {attempt}; now held by {current}")
        same = (current.job, current.restart) == (attempt.job, attempt.restart)
        if same and current.pid != attempt.pid and current.is_alive_here():
            raise ClaimedError(f"{layout.folder}: {current} is working on it; stop that process or wait for its end")
    restarts = replaced | {attempt.job: attempt.restart}
    write_sealed_json(layout.claim, {RUN: layout.run_id, **attempt.to_json(), "restarts": restarts})
    remove_partial(layout.folder)


def check_job(layout: RunLayout, attempt: Attempt) -> None:
    """Check the claim from another process (rank) of the job that claimed the run.

    Raises:
        ClaimedError: another job or restart holds the run, or claim.json is damaged.
    """
    current = _holder(layout, attempt)
    if current is None or (current.job, current.restart) != (attempt.job, attempt.restart):
        raise ClaimedError(f"{layout.folder}: now held by {current or 'no attempt'}; {attempt} stops without writing")


def check_claim(layout: RunLayout, attempt: Attempt) -> None:
    """Check that `attempt` still holds the run.

    Raises:
        ClaimedError: another attempt holds the run, or claim.json is damaged; `attempt` may not write to it.
    """
    current = _holder(layout, attempt)
    if current != attempt:
        raise ClaimedError(f"{layout.folder}: now held by {current or 'no attempt'}; {attempt} stops without writing")


def _holder(layout: RunLayout, attempt: Attempt) -> Attempt | None:
    """The attempt that holds the run; a damaged claim stops `attempt`, which may have been replaced."""
    try:
        known = read_claim(layout)
    except DataError as error:
        raise ClaimedError(
            f"{error}; {attempt} cannot know whether it still holds the run and stops without writing: the next start "
            "of the run writes the file again and continues from the newest checkpoint"
        ) from None
    return known.holder if known else None
