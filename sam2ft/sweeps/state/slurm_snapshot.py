"""What Slurm says about the jobs of an experiment, asked once: its queue, and its accounting where there is one."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sam2ft.runs.layout import ExperimentLayout
from sam2ft.slurm.accounting import Accounted, read_accounting
from sam2ft.slurm.queue import QueueEntry, read_queue
from sam2ft.sweeps.submit.records import elements_of


@dataclass(frozen=True)
class SlurmSnapshot:
    """One look at Slurm."""

    queue: Mapping[str, QueueEntry] | None
    """Job id -> entry; None when the queue cannot be asked, so that absence means nothing."""
    accounting: Mapping[str, Accounted] | None = None
    """Job id -> what the accounting says; None where a site has none, or it does not answer."""


NOTHING_KNOWN = SlurmSnapshot(None)
"""No Slurm was asked: what runs say themselves has to do."""


def take_snapshot(jobs: Collection[str] = (), users: Collection[int] = ()) -> SlurmSnapshot:
    """Ask Slurm once: the queue of this user (and of `users`), and the accounting of `jobs`.

    `users` are those who submitted, where an experiment belongs to several people.
    """
    queue = read_queue(users)
    # Where no queue answers there is no Slurm, or none that could be trusted to be the right one.
    return SlurmSnapshot(queue, read_accounting(jobs) if jobs and queue is not None else None)


def snapshot_of(layout: ExperimentLayout) -> SlurmSnapshot:
    """Ask Slurm once about everything that was ever submitted for an experiment."""
    jobs = {element.job for elements in elements_of(layout).values() for element in elements}
    return take_snapshot(jobs, submitters(layout))


def submitters(layout: ExperimentLayout) -> frozenset[int]:
    """User ids of those who submitted: the owners of the records."""
    paths = layout.submissions.glob("*.json")
    return frozenset({os.getuid(), *(path.stat().st_uid for path in paths)})
