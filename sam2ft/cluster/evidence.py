"""What Slurm says about the jobs of an experiment, asked once: its queue, and its accounting where there is one."""

from collections.abc import Mapping
from dataclasses import dataclass

from sam2ft.cluster.queue import QueueEntry, read_queue


@dataclass(frozen=True)
class Evidence:
    """One look at Slurm."""

    queue: Mapping[str, QueueEntry] | None
    """Job id -> entry; None when the queue cannot be asked, so that absence means nothing."""


def look() -> Evidence:
    """Ask Slurm once."""
    return Evidence(read_queue())
