"""What Slurm's queue says about the jobs of this user."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass

_FORMAT = "%i|%T|%r|%N|%E|%S"
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
    dependency: str = ""
    """What it waits for, as squeue writes it: `afterok:17_3(unfulfilled)`; empty for nothing."""
    start: str = ""
    """When Slurm expects to start it (or started it), UTC; empty when it does not say."""

    @property
    def waits(self) -> bool:
        return self.state in WAITING

    @property
    def stuck(self) -> bool:
        """Whether it waits for something that cannot happen any more."""
        return self.waits and self.reason == "DependencyNeverSatisfied"


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
        # Lines of the four columns of before are read too.
        job, state, reason, nodes, dependency, start, *_ = [*line.strip().split("|"), "", ""]
        if state not in ENDING:
            known = ["" if value in ("(null)", "N/A") else value for value in (dependency, start)]
            entries[job] = QueueEntry(state, reason, nodes, *known)
    return entries


def read_queue(users: Collection[int] = ()) -> Mapping[str, QueueEntry] | None:
    """The jobs of this user (and of `users`), or None when the queue cannot be asked: then absence means nothing."""
    if not slurm_is_here():
        return None
    asked = ",".join(str(user) for user in sorted({os.getuid(), *users}))
    # -r gives pending arrays one line per element: sparse index lists are cut at 64 characters otherwise.
    command = ["squeue", "-h", "-r", "-u", asked, "-o", _FORMAT]
    environment = {**os.environ, "TZ": "UTC0", "SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_squeue(done.stdout) if done.returncode == 0 else None
