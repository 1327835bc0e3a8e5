"""Log files of a run: one per attempt in the run's folder, and Slurm's output files in the submission's folder."""

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from sam2ft.core.files import listed_files
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.sweeps.submit.records import Element

LOG_LINES = 8
_TAIL_BYTES = 64 * 1024
_OUT_OF_MEMORY = re.compile(rb"exceeded (job|step|virtual)?\s*memory limit|oom[-_ ]?kill", re.IGNORECASE)
"""Messages of slurmstepd without and with cgroups: `Exceeded job memory limit`, `Detected 1 oom_kill event in StepId=`.
"""


def tail_bytes(path: Path, count: int = _TAIL_BYTES) -> bytes:
    """Return the end of a file; empty when it cannot be read (another user's file, or removed)."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - count))
            return stream.read()
    except OSError:
        return b""


def last_lines(path: Path, count: int) -> tuple[str, ...]:
    """Return the last `count` lines of a file that are not empty."""
    lines = tail_bytes(path, max(_TAIL_BYTES, 400 * count)).decode("utf-8", errors="replace").splitlines()
    return tuple([line.rstrip() for line in lines if line.strip()][-count:])


def logs_of_run(layout: RunLayout) -> list[Path]:
    """Return the logs of the run's attempts and ranks, the newest last."""
    found = listed_files(layout.logs, "*.log")
    return sorted(found, key=lambda path: (found[path].st_mtime_ns, path))


def slurm_logs(layout: ExperimentLayout, element: Element) -> list[Path]:
    """Return the output files of batch script and tasks: `submissions/<n>/<job>_<task>_log.out`."""
    return list(listed_files(layout.scripts(element.submission), f"{element.job}_*log.out"))


def newest_log(layout: ExperimentLayout, run_id: str, jobs: Sequence[Element]) -> Path | None:
    """Return the newest log that is not empty: that of an attempt, else that of Slurm."""
    of_slurm = (path for element in reversed(jobs) for path in slurm_logs(layout, element))
    newest_first = chain(reversed(logs_of_run(layout.run(run_id))), of_slurm)
    return next((path for path in newest_first if last_lines(path, 1)), None)


def last_log_lines(
    layout: ExperimentLayout, run_id: str, jobs: Sequence[Element] = (), count: int = LOG_LINES
) -> tuple[str, ...]:
    """Return the last lines of `newest_log`."""
    path = newest_log(layout, run_id, jobs)
    return () if path is None else last_lines(path, count)


def log_shows_out_of_memory(layout: ExperimentLayout, run_id: str, element: Element) -> bool:
    """Whether a log of this job contains Slurm's message that the memory limit was exceeded."""
    paths = [*slurm_logs(layout, element), *listed_files(layout.run(run_id).logs, f"{element.job}-*.log")]
    return any(_OUT_OF_MEMORY.search(tail_bytes(path)) for path in paths)
