"""Explanation of one run (`status.py EXP why RUN`): its state with reason, its jobs, its last log lines, what to do."""

from collections.abc import Iterator
from pathlib import Path

from sam2ft.core.errors import printable
from sam2ft.runs.attempt.status import RunStatus
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import newest_plan
from sam2ft.runs.states import State
from sam2ft.slurm.accounting import Accounted
from sam2ft.slurm.queue import QueueEntry
from sam2ft.sweeps.state.collect import experiment_layout, reconciled_runs_of
from sam2ft.sweeps.state.logs import last_lines, newest_log
from sam2ft.sweeps.state.reconcile import ReconciledRun
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot, snapshot_of
from sam2ft.sweeps.status.select_run import find_run
from sam2ft.sweeps.status.table import duration
from sam2ft.sweeps.submit.records import Element

REASONS = {
    "Priority": "other jobs come first",
    "Resources": "waits until enough resources are free",
    "Dependency": "waits for other jobs",
    "DependencyNeverSatisfied": "a job that it depends on failed or was cancelled; it can never start",
    "BeginTime": "was requeued; SLURM waits about two minutes before it starts it again",
    "JobArrayTaskLimit": "the throttle allows no more running elements of its array (make throttle changes it)",
    "JobHeldUser": "held by the user (scontrol release ends the hold)",
    "JobHeldAdmin": "held by an administrator",
    "QOSMaxJobsPerUserLimit": "you have the largest number of jobs that the quality of service allows",
    "QOSMaxGRESPerUser": "you use the largest number of GPUs that the quality of service allows",
    "QOSGrpGRES": "the group uses the largest number of GPUs that the quality of service allows",
    "AssocGrpGRES": "the account uses the largest number of GPUs that it is allowed",
    "AssocMaxJobsLimit": "the account has the largest number of jobs that it is allowed",
    "AssocGrpCpuLimit": "the account uses the largest number of cores that it is allowed",
    "MaxCpuPerAccount": "the account uses the largest number of cores that it is allowed",
    "PartitionTimeLimit": "requests more time than the partition allows (resources.hours)",
    "PartitionNodeLimit": "requests more nodes than the partition has (resources.nodes)",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition accepts no jobs now",
    "ReqNodeNotAvail": "nodes that it requests are down, drained or reserved",
    "Reservation": "waits for its reservation",
    "BadConstraints": "no node has what it requests (resources, slurm.constraint)",
    "NodeDown": "a node that it needs is down",
    "Licenses": "waits for a licence",
    "Cleaning": "SLURM still cleans up its last attempt",
    "launch failed requeued held": "could not be started on its node; held (scontrol release tries again)",
}
"""SLURM's reason codes of pending jobs -> explanation."""

_LINES = 15


def show_why(path: Path, text: str) -> int:
    """Print the explanation of a run (`status.py EXP why RUN`); returns the exit code."""
    layout = experiment_layout(path)
    plan = newest_plan(layout)
    chosen = find_run(plan.runs, text)
    snapshot = snapshot_of(layout)
    reconciled_runs = reconciled_runs_of(layout, plan, snapshot)
    reconciled = next(entry for entry in reconciled_runs if entry.run.run_id == chosen.run_id)
    for line in explanation(layout, reconciled, snapshot):
        print(printable(line))
    return 0


def explanation(layout: ExperimentLayout, reconciled: ReconciledRun, snapshot: SlurmSnapshot) -> Iterator[str]:
    """Yield the explanation line by line."""
    run, status = reconciled.run, reconciled.status
    yield f"{run.name}  (index {run.index}, {layout.run(run.run_id).folder})"
    kind = f" ({reconciled.failure_class})" if reconciled.failure_class else ""
    waits = f", before its {reconciled.waits_for}" if reconciled.waits_for else ""
    yield f"state       {reconciled.state}{kind}{waits}"
    if reconciled.reason:
        yield f"reason      {reconciled.reason}"
    yield f"known from  {reconciled.source}"
    if status is not None:
        yield from _own_status(status)
    for element in reconciled.jobs:
        yield from _job(element, snapshot)
    if snapshot.queue is None and reconciled.jobs:
        yield "            SLURM's queue does not answer here"
    elif snapshot.accounting is None and reconciled.jobs:
        yield "            no accounting on this cluster: only the run's own files show how its jobs ended"
    log = newest_log(layout, run.run_id, reconciled.jobs)
    if log is not None and reconciled.state not in (State.DONE, State.NEW):
        yield f"log         {log}"
        yield from (f"  | {line}" for line in last_lines(log, _LINES))
    yield f"next        {(reconciled.failure_class or reconciled.state).next_step}"


def _own_status(status: RunStatus) -> Iterator[str]:
    parts: list[str] = [status.state]
    if status.epoch is not None:
        parts.append(f"epoch {status.epoch + 1}" + (f" of {status.num_epochs}" if status.num_epochs else ""))
    if status.step is not None:
        parts.append(f"step {status.step}")
    if status.best_value is not None:
        parts.append(f"best {status.monitor} {status.best_value:.4f}")
    if status.trained:
        parts.append("training has ended")
    yield f"status.json {', '.join(parts)}"
    silence_s = status.silence_s()
    when = f"{duration(silence_s)} ago" if silence_s >= 0 else f"{duration(-silence_s)} in the future"
    yield f"attempt     {status.attempt}, last heartbeat {when}"


def _job(element: Element, snapshot: SlurmSnapshot) -> Iterator[str]:
    entry, known = (snapshot.queue or {}).get(element.job), (snapshot.accounting or {}).get(element.job)
    yield f"job         {element.job}  {element.work}, submission {element.submission}{_in_queue(entry, snapshot)}"
    if entry is not None and entry.waits:
        words = REASONS.get(entry.reason.partition(",")[0], "")
        yield f"            {entry.reason}{': ' + words if words else ''}"
        if entry.dependency:
            yield f"            waits for {entry.dependency}"
        if entry.start:
            yield f"            SLURM expects to start it at {entry.start} UTC"
    if known is not None:
        yield f"            {_accounting_line(known)}"
        if known.removed:
            yield "            SLURM removed it: the training it waited for did not end successfully"
        for count, attempt in enumerate(known.attempts if len(known.attempts) > 1 else ()):
            after = f"after {duration(attempt.elapsed_s)}{f' on {attempt.nodes}' if attempt.nodes else ''}"
            yield f"            attempt {count}: {attempt.state} {attempt.exit_code} {after}"


def _in_queue(entry: QueueEntry | None, snapshot: SlurmSnapshot) -> str:
    if entry is not None:
        return f": {entry.state}{f' on {entry.nodes}' if entry.nodes else ''}"
    return ": not in the queue" if snapshot.queue is not None else ""


def _accounting_line(known: Accounted) -> str:
    hours = f"{known.gpu_hours:.2f} GPU-hours" if known.gpu_hours else f"{known.cpu_hours:.2f} core-hours"
    restarts = f", {known.restarts} restarts" if known.restarts else ""
    return f"accounting: {known.state} {known.exit_code}, {duration(known.elapsed_s)} elapsed{restarts}, {hours}"
