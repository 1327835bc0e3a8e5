"""Snapshot of Slurm for one experiment: queue, and accounting where there is one, each read once."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sam2ft.core.files import listed_files
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.slurm.accounting import Accounted, read_accounting
from sam2ft.slurm.queue import QueueEntry, read_queue
from sam2ft.sweeps.submit.records import elements_of


@dataclass(frozen=True)
class SlurmSnapshot:
    """Queue and accounting of Slurm at one moment."""

    queue: Mapping[str, QueueEntry] | None
    """Job id -> entry; None when squeue does not answer: then a missing job means nothing."""
    accounting: Mapping[str, Accounted] | None = None
    """Job id -> accounting; None where a site has none, or it does not answer."""


NOTHING_KNOWN = SlurmSnapshot(None)
"""Slurm was not asked: states are concluded from the runs' own files."""


def take_snapshot(jobs: Collection[str] = (), users: Collection[int] = ()) -> SlurmSnapshot:
    """Read Slurm once: the queue of this user (and of `users`), and the accounting of `jobs`.

    Args:
        users: user ids of those who submitted, where several people share an experiment.
    """
    queue = read_queue(users)
    # Without a queue there is no Slurm, or perhaps not the one that the jobs were submitted to.
    return SlurmSnapshot(queue, read_accounting(jobs) if jobs and queue is not None else None)


def snapshot_of(layout: ExperimentLayout) -> SlurmSnapshot:
    """Read Slurm once for all jobs that were ever submitted for an experiment."""
    jobs = {element.job for elements in elements_of(layout).values() for element in elements}
    return take_snapshot(jobs, submitters(layout))


def submitters(layout: ExperimentLayout) -> frozenset[int]:
    """Return the user ids of those who submitted: the owners of the submission records."""
    return frozenset({os.getuid(), *(stat.st_uid for stat in listed_files(layout.submissions, "*.json").values())})
