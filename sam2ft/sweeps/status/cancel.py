"""Cancelling of an experiment's queued and running jobs (scancel) and of its local processes."""

import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from sam2ft.config.trust import refuse_untrusted
from sam2ft.core.errors import UserError
from sam2ft.runs.attempt.claim import LOCAL
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import newest_plan
from sam2ft.runs.states import State
from sam2ft.slurm.answers import run_program
from sam2ft.sweeps.state.collect import experiment_layout, reconciled_runs_of
from sam2ft.sweeps.state.reconcile import ReconciledRun
from sam2ft.sweeps.state.slurm_snapshot import submitters, take_snapshot
from sam2ft.sweeps.status.select_run import find_run
from sam2ft.sweeps.submit.records import elements_of, refuse_untrusted_records

_JOBS_PER_CALL = 500
_TIMEOUT_S = 60


def cancel(path: Path, text: str | None = None, *, yes: bool = False) -> int:
    """Cancel queued and running jobs with scancel and stop local processes (`status.py EXP cancel [RUN]`).

    The report job is not cancelled: it reports the results that exist.

    Args:
        text: the run to cancel; None for all runs of the experiment, those of earlier plans included.
        yes: must be set to cancel all runs.

    Raises:
        UserError: Slurm does not answer or refuses, `yes` is missing, or somebody else could have written plan, record
            or status.
    """
    layout = experiment_layout(path)
    plan = newest_plan(layout)
    refuse_untrusted(layout.plan(plan.plan_id), "plan")
    refuse_untrusted_records(layout)
    chosen = None if text is None else find_run(plan.runs, text).run_id
    snapshot = take_snapshot(users=submitters(layout))
    queue = snapshot.queue or {}
    names = {run.run_id: run.name for run in plan.runs}
    live = [
        (run_id, element)
        for run_id, elements in elements_of(layout).items()
        for element in elements
        if element.job in queue and chosen in (None, run_id)
    ]
    reconciled_runs = [
        entry for entry in reconciled_runs_of(layout, plan, snapshot) if chosen in (None, entry.run.run_id)
    ]
    processes = [entry for entry in reconciled_runs if _is_local(entry)]
    if text is None and not yes and (live or processes):
        raise UserError(
            f"{len(live)} jobs and {len(processes)} local processes would be cancelled; add --yes, or name a run"
        )
    if snapshot.queue is None and any(entry.jobs and entry.state is State.UNKNOWN for entry in reconciled_runs):
        raise UserError("SLURM's queue does not answer here; cancel on a machine where it does")
    _scancel(sorted({element.job for _, element in live}))
    for run_id, element in live:
        print(f"cancelled {names.get(run_id, run_id)}: job {element.job} ({element.work}, {queue[element.job].state})")
    for line in _stop_processes(layout, processes, everything=text is None):
        print(line)
    if not live and not processes:
        print("nothing to cancel: no job in the queue and no running process on this machine")
    return 0


def _scancel(jobs: Sequence[str]) -> None:
    for start in range(0, len(jobs), _JOBS_PER_CALL):
        command = ["scancel", *jobs[start : start + _JOBS_PER_CALL]]
        done = run_program(command, called="scancel", hint="; jobs may not have been cancelled", timeout_s=_TIMEOUT_S)
        if done.returncode:
            raise UserError(f"scancel refused: {done.stderr.strip()}")


def _is_local(reconciled: ReconciledRun) -> bool:
    """Whether a process of a local pool (or of launch/train.py) reports that it is active."""
    status = reconciled.status
    return (
        reconciled.state in (State.RUNNING, State.UNKNOWN)
        and status is not None
        and status.state.active
        and status.attempt.job == LOCAL
    )


def _stop_processes(
    layout: ExperimentLayout, reconciled_runs: Sequence[ReconciledRun], *, everything: bool
) -> Iterator[str]:
    """Ask each process to save and stop; with `everything` its pool instead, so that it starts no further point."""
    signalled: set[int] = set()
    for reconciled in reconciled_runs:
        assert reconciled.status is not None
        attempt = reconciled.status.attempt
        refuse_untrusted(layout.run(reconciled.run.run_id).status, "status file")
        if attempt.host != socket.gethostname():
            yield f"{reconciled.run.name}: runs on {attempt.host} (process {attempt.pid}); cancel it on that host"
        elif not _is_ours(attempt.pid):
            yield f"{reconciled.run.name}: process {attempt.pid} has ended"
        else:
            pool = _parent(attempt.pid)
            of_pool = pool is not None and "launch/sweep.py" in _command(pool)
            target = pool if everything and of_pool and pool is not None else attempt.pid
            if target not in signalled:
                signalled.add(target)
                os.kill(target, signal.SIGTERM)
            ending = "; its pool continues with the next point" if of_pool and not everything else ""
            yield f"{reconciled.run.name}: asked process {target} to save and stop{ending}"


def _is_ours(pid: int) -> bool:
    """Whether `pid` is (still) a process of sam2ft: process ids are reused."""
    command = _command(pid)
    return "sam2ft" in command or "launch/" in command


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _parent(pid: int) -> int | None:
    try:
        # The name in parentheses may contain any character; state and parent follow it.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None
