"""State of each run of a plan, and the selection of the runs that a sweep starts (new, stopped, lost, --retry)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sam2ft.core.errors import DataError
from sam2ft.runs.attempt.status import FailureClass, RunStatus, read_status
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.runs.plan_file import Plan, PlannedRun, evaluation_is_current
from sam2ft.sweeps.state.run_state import Conclusion, RunFacts, State, conclude
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.submit.records import Element, elements_of

__all__ = ["ReconciledRun", "State", "reconcile", "runs_to_start", "sentence", "to_submit"]

WANTED: frozenset[State] = frozenset({"new", "stopped", "lost"})
"""States of runs that a sweep starts without --retry or --force."""

Retry = Literal["failed", "error", "oom", "timeout", "no_progress", "all"]


@dataclass(frozen=True)
class ReconciledRun:
    """State of one planned run, with its reason and its Slurm jobs."""

    run: PlannedRun
    state: State
    reason: str
    """Why it is not done; may be empty."""
    status: RunStatus | None
    failure_class: FailureClass | None = None
    jobs: tuple[Element, ...] = ()
    """Every Slurm job that was submitted for it, oldest first."""
    job: str | None = None
    """The job that decides the state: running, else waiting, else the one that ended last; None without Slurm."""
    source: str = ""
    """What the state was concluded from, as text: `its status.json`, `the queue`, `accounting: ...`, ..."""
    waits_for: str | None = None
    """Of a queued run: `training` or `evaluation`, whichever comes next."""


def reconcile(layout: ExperimentLayout, plan: Plan, snapshot: SlurmSnapshot) -> tuple[ReconciledRun, ...]:
    """Return the state of every run of the plan.

    The sources, in this order: a status.json that reports done; the queue; the end of the last job in the accounting;
    the run's heartbeat; the last state in status.json. A run is never called lost only because it is not in the queue,
    and a state that cannot be determined is `unknown`. A status.json that cannot be read affects only its own run.
    """
    elements = elements_of(layout)
    return tuple(
        _reconciled(layout, run, elements.get(run.run_id, ()), snapshot, fresh=plan.fresh) for run in plan.runs
    )


def _reconciled(
    layout: ExperimentLayout, run: PlannedRun, jobs: tuple[Element, ...], snapshot: SlurmSnapshot, *, fresh: bool
) -> ReconciledRun:
    run_layout, status, damage = layout.run(run.run_id), None, ""
    last = jobs[-1].job if jobs else None
    try:
        status = read_status(run_layout)
        if status is not None and status.state == "done" and not fresh and _evaluated(run_layout, run, status):
            return ReconciledRun(run, "done", "", status, None, jobs, last, "its status.json")
    except DataError as error:
        damage = str(error)
    conclusion = conclude(RunFacts(layout, run, status, jobs, snapshot))
    if damage and conclusion.state not in ("queued", "running"):
        conclusion = Conclusion("unknown", damage, None, last, "its status.json, which cannot be read")
    elif fresh and conclusion.state == "new" and status is not None:
        conclusion = Conclusion("new", "to be trained again", None, last, conclusion.source)
    return ReconciledRun(
        run,
        conclusion.state,
        conclusion.reason,
        status,
        conclusion.failure_class,
        jobs,
        conclusion.job or last,
        conclusion.source,
        conclusion.waits_for,
    )


def _evaluated(layout: RunLayout, run: PlannedRun, status: RunStatus) -> bool:
    return all(evaluation_is_current(layout, run, eval_id, status.best_sha256) for eval_id in run.eval_ids)


def runs_to_start(
    reconciled_runs: Sequence[ReconciledRun], *, retry: Retry | None, force: bool
) -> tuple[ReconciledRun, ...]:
    """Return the runs that a sweep starts now.

    Args:
        retry: None: new, stopped and lost runs; `failed` or a failure class also failed runs; `all` also unknown ones.
        force: all runs that are neither queued nor running.
    """

    def wanted(reconciled: ReconciledRun) -> bool:
        if force:
            return reconciled.state not in ("queued", "running")
        if reconciled.state == "failed":
            return retry in ("failed", "all") or (retry is not None and retry == reconciled.failure_class)
        return reconciled.state in WANTED or (reconciled.state == "unknown" and retry == "all")

    return tuple(reconciled for reconciled in reconciled_runs if wanted(reconciled))


def to_submit(reconciled_runs: Sequence[ReconciledRun], *, retry: Retry | None, force: bool) -> tuple[PlannedRun, ...]:
    """Return the planned runs of `missing`."""
    return tuple(reconciled.run for reconciled in runs_to_start(reconciled_runs, retry=retry, force=force))


def sentence(reconciled_runs: Sequence[ReconciledRun], num_to_submit: int) -> str:
    """Return `0 to submit: 4 done, 0 running, 0 failed`; other states are listed when a run has them."""
    counts = {state: sum(reconciled.state == state for reconciled in reconciled_runs) for state in get_args(State)}
    shown: tuple[State, ...] = ("done", "running", "failed")
    parts = [f"{counts[state]} {state}" for state in shown]
    parts += [f"{count} {state}" for state, count in counts.items() if count and state not in shown]
    return f"{num_to_submit} to submit: {', '.join(parts)}"
