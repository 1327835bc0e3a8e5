"""Slurm's job queue: state, reason and dependency of the jobs of this user, read from `squeue`."""

import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sam2ft.slurm.answers import answer_of
from sam2ft.slurm.states import SlurmState

_FORMAT = "%i|%T|%r|%N|%E|%S"
_TIMEOUT_S = 30


@dataclass(frozen=True)
class QueueEntry:
    """One job, or one element of an array, that squeue lists."""

    state: SlurmState
    reason: str
    nodes: str
    dependency: str = ""
    """Jobs that it waits for, as squeue writes them: `afterok:17_3(unfulfilled)`; empty for none."""
    start: str = ""
    """Expected (or actual) start time, UTC; empty when Slurm gives none."""

    @property
    def waits(self) -> bool:
        """Whether the job has not started, or is waiting to start again."""
        return self.state.phase == "waits"

    @property
    def stuck(self) -> bool:
        """Whether it waits for a dependency that can never be satisfied."""
        return self.waits and self.reason == "DependencyNeverSatisfied"


def slurm_is_installed() -> bool:
    """Whether sbatch and squeue are installed on this machine."""
    return shutil.which("sbatch") is not None and shutil.which("squeue") is not None


def cluster_name() -> str | None:
    """ClusterName of the Slurm that this machine belongs to, or None when it does not answer."""
    answer = answer_of("scontrol", "show", "config", timeout_s=_TIMEOUT_S)
    found = re.search(r"^ClusterName\s*=\s*(\S+)", answer or "", re.MULTILINE)
    return found[1] if found else None


def parse_squeue(text: str) -> dict[str, QueueEntry]:
    """Parse lines of `_FORMAT`; returns job id (`<array>_<task>` for elements) -> entry, without ended jobs."""
    entries = {}
    for line in text.splitlines():
        # Lines of the older format with four columns are read too.
        job, word, reason, nodes, dependency, start, *_ = [*line.strip().split("|"), "", ""]
        if (state := SlurmState(word)).phase != "ended":
            known = ["" if value in ("(null)", "N/A") else value for value in (dependency, start)]
            entries[job] = QueueEntry(state, reason, nodes, *known)
    return entries


def read_queue(users: Collection[int] = ()) -> Mapping[str, QueueEntry] | None:
    """Read the queued and running jobs of this user (and of the user ids `users`).

    None when squeue does not answer: then a missing job means nothing.
    """
    if not slurm_is_installed():
        return None
    asked = ",".join(str(user) for user in sorted({os.getuid(), *users}))
    # -r: one line per element of a pending array.
    answer = answer_of("squeue", "-h", "-r", "-u", asked, "-o", _FORMAT, timeout_s=_TIMEOUT_S)
    return None if answer is None else parse_squeue(answer)
