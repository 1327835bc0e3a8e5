"""What Slurm's queue says about the jobs of this user."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

_FORMAT = "%i|%T|%r|%N"
_TIMEOUT_S = 30

WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING"})
ENDING = frozenset(
    {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"}
)


@dataclass(frozen=True)
class QueueEntry:
    """One job, or one element of an array, that the queue lists."""

    state: str
    """Slurm's word, such as PENDING or RUNNING."""
    reason: str
    nodes: str

    @property
    def waits(self) -> bool:
        return self.state in WAITING


def slurm_is_here() -> bool:
    """Whether this machine can submit to a Slurm."""
    return shutil.which("sbatch") is not None and shutil.which("squeue") is not None


def cluster_name() -> str | None:
    """ClusterName of the Slurm that this machine talks to, or None when it does not answer."""
    try:
        done = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"^ClusterName\s*=\s*(\S+)", done.stdout, re.MULTILINE)
    return found[1] if found else None


def parse_squeue(text: str) -> dict[str, QueueEntry]:
    """Job id (`<array>_<task>` for elements) to entry, from lines of `_FORMAT`; jobs that ended are left out."""
    entries = {}
    for line in text.splitlines():
        job, state, reason, nodes = line.strip().split("|", 3)
        if state not in ENDING:
            entries[job] = QueueEntry(state, reason, nodes)
    return entries


def read_queue() -> Mapping[str, QueueEntry] | None:
    """The jobs of this user, or None when the queue cannot be asked (then absence means nothing)."""
    if not slurm_is_here():
        return None
    # -r gives pending arrays one line per element: sparse index lists are cut at 64 characters otherwise.
    command = ["squeue", "-h", "-r", "-u", str(os.getuid()), "-o", _FORMAT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    return parse_squeue(done.stdout) if done.returncode == 0 else None
