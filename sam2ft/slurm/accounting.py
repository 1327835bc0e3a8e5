"""Slurm accounting of jobs, read from the text output of `sacct`, where a site keeps an accounting database.

`sacct --json` changes its structure between releases; the `-P` columns used in this module are unchanged since 20.02.
"""

import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sam2ft.slurm.answers import answer_of
from sam2ft.slurm.states import SlurmState

FIELDS = (
    "JobID", "State", "ExitCode", "ElapsedRaw", "AllocTRES", "Submit", "Start", "End", "NodeList", "Reason", "JobName"
)  # fmt: skip
"""JobName comes last: it is the only column that may contain the separator."""
_JOBS_PER_CALL = 200
"""Keeps a command line far below every length limit; sweeps have few arrays, so one call is usually enough."""


@dataclass(frozen=True)
class AccountedAttempt:
    """One attempt (start) of a job; a requeued job has several."""

    state: SlurmState
    exit_code: str
    """`<code>:<signal>`."""
    elapsed_s: int
    gpus: int
    cpus: int
    nodes: str
    start: str | None
    """UTC, ISO 8601 without an offset; None when it never started."""
    end: str | None


@dataclass(frozen=True)
class Accounted:
    """Accounting of one job, or of one element of an array, over all its attempts."""

    state: SlurmState
    """State of the newest attempt."""
    exit_code: str
    """`<code>:<signal>` of the newest attempt."""
    elapsed_s: int
    """Sum over all attempts, seconds."""
    gpu_hours: float
    """Allocated GPUs x elapsed time, summed over all attempts."""
    cpu_hours: float
    restarts: int
    """Number of requeues."""
    nodes: str
    reason: str
    """Slurm's reason; empty for `None`."""
    attempts: tuple[AccountedAttempt, ...]
    """Oldest first; at least one."""
    cancelled_by: str | None = None
    """User id of the user who cancelled it, as sacct writes it; 0 is root or Slurm itself."""

    @property
    def code(self) -> int:
        """Exit code of the newest attempt."""
        return int(self.exit_code.partition(":")[0] or 0)

    @property
    def signal(self) -> int:
        """Signal that ended the newest attempt; 0 for none."""
        return int(self.exit_code.partition(":")[2] or 0)

    @property
    def started(self) -> bool:
        """Whether it ever ran on a node; a job that was removed before that may still have a start time."""
        return any(attempt.nodes for attempt in self.attempts)

    @property
    def removed(self) -> bool:
        """Whether Slurm itself removed it from the queue because its dependency can never be satisfied."""
        return self.state == SlurmState.CANCELLED and self.cancelled_by is None and not self.started

    @property
    def ended(self) -> bool:
        """Whether its state is final for Slurm."""
        return self.state.phase == "ended"


def read_accounting(jobs: Collection[str]) -> Mapping[str, Accounted] | None:
    """Read the accounting of the jobs (or array elements) `jobs`, by id; None where no accounting is available.

    For an element, its whole array is read, so that the command line stays short.
    """
    if shutil.which("sacct") is None:
        return None
    arrays = sorted({job.partition("_")[0] for job in jobs})
    lines: list[str] = []
    for start in range(0, len(arrays), _JOBS_PER_CALL):
        chunk = ",".join(arrays[start : start + _JOBS_PER_CALL])
        answer = answer_of("sacct", "-X", "-P", "-D", "-n", "-o", ",".join(FIELDS), "-j", chunk)
        # No accounting at this site ("Slurm accounting storage is disabled"), or its database does not answer.
        if answer is None:
            return None
        lines += answer.splitlines()
    return parse_sacct(lines)


def parse_sacct(lines: Sequence[str]) -> dict[str, Accounted]:
    """Parse lines of FIELDS, in any order; returns job id (`<array>_<task>` for elements) -> accounting."""
    rows: dict[str, list[dict[str, str]]] = {}
    for line in lines:
        if line.count("|") >= len(FIELDS) - 1:
            row = dict(zip(FIELDS, line.split("|", len(FIELDS) - 1), strict=True))
            for job in job_ids(row["JobID"]):
                rows.setdefault(job, []).append(row)
    return {job: _accounted(entries) for job, entries in rows.items()}


def job_ids(text: str) -> Iterator[str]:
    """Expand an id of sacct: `17_[3,5-7%2]` -> 17_3, 17_5, 17_6, 17_7. Other ids are returned unchanged.

    Pending elements of an array share one line.
    """
    found = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", text)
    if found is None:
        yield text
        return
    for part in found[2].split(","):
        first, _, rest = part.partition("-")
        last, _, step = rest.partition(":")
        for task in range(int(first), int(last or first) + 1, int(step or 1)):
            yield f"{found[1]}_{task}"


def _accounted(rows: Sequence[Mapping[str, str]]) -> Accounted:
    # ISO times sort as text. A cluster that was installed again numbers its jobs from 1: an old accounting database
    # then contains other jobs with the same id, which have other names.
    ordered = sorted(rows, key=lambda row: row["Submit"])
    newest = ordered[-1]
    attempts = tuple(_attempt(row) for row in ordered if row["JobName"] == newest["JobName"])
    words = newest["State"].split()
    cancelled_by = words[2] if len(words) == 3 and words[:2] == ["CANCELLED", "by"] else None
    return Accounted(
        state=attempts[-1].state,
        exit_code=newest["ExitCode"],
        elapsed_s=sum(attempt.elapsed_s for attempt in attempts),
        gpu_hours=sum(attempt.gpus * attempt.elapsed_s for attempt in attempts) / 3600,
        cpu_hours=sum(attempt.cpus * attempt.elapsed_s for attempt in attempts) / 3600,
        restarts=len(attempts) - 1,
        nodes=attempts[-1].nodes,
        reason="" if newest["Reason"] == "None" else newest["Reason"],
        attempts=attempts,
        cancelled_by=cancelled_by,
    )


def _attempt(row: Mapping[str, str]) -> AccountedAttempt:
    tres = dict(entry.partition("=")[::2] for entry in row["AllocTRES"].split(",") if "=" in entry)
    # A typed GPU is listed twice: as gres/gpu and as gres/gpu:a100.
    gpus = tres.get("gres/gpu") or sum(int(count) for name, count in tres.items() if name.startswith("gres/gpu:"))
    return AccountedAttempt(
        state=SlurmState.of(row["State"]),
        exit_code=row["ExitCode"] or "0:0",
        elapsed_s=int(row["ElapsedRaw"] or 0),
        gpus=int(gpus),
        cpus=int(tres.get("cpu", 0)),
        nodes="" if row["NodeList"] in ("None assigned", "None") else row["NodeList"],
        start=_time(row["Start"]),
        end=_time(row["End"]),
    )


def _time(text: str) -> str | None:
    return text if re.match(r"\d{4}-", text) else None
