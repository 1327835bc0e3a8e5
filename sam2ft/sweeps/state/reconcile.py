"""Where each run of a plan stands, and what a sweep starts because of it."""

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

__all__ = ["ReconciledRun", "State", "missing", "reconcile", "sentence", "to_submit"]

WANTED: frozenset[State] = frozenset({"new", "stopped", "lost"})
"""States that a sweep submits without being asked."""

Retry = Literal["failed", "error", "oom", "timeout", "no_progress", "all"]


@dataclass(frozen=True)
class ReconciledRun:
    """Where one planned run stands."""

    run: PlannedRun
    state: State
    reason: str
    """Why it is not done; empty when there is nothing to say."""
    status: RunStatus | None
    failure_class: FailureClass | None = None
    jobs: tuple[Element, ...] = ()
    """Every Slurm job that was submitted for it, oldest first."""
    job: str | None = None
    """The one that matters now: at work, else waiting, else the one that ended last; None without Slurm."""
    source: str = ""
    """What the state was concluded from, for people: `its own last word`, `the queue`, `accounting`, ..."""
    waits_for: str | None = None
    """Of a queued run: `training` or `evaluation`, whichever comes next."""


def reconcile(layout: ExperimentLayout, plan: Plan, snapshot: SlurmSnapshot) -> tuple[ReconciledRun, ...]:
    """Where every run of the plan stands.

    In this order: what the run itself says when it is done; the queue; how accounting says its last job ended; the
    run's heartbeat; the run's last word. Not being in the queue alone never means dead, and what cannot be known is
    `unknown`. A status.json that cannot be read is the reason of its own run alone.
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
            return ReconciledRun(run, "done", "", status, None, jobs, last, "its own last word")
    except DataError as error:
        damage = str(error)
    conclusion = conclude(RunFacts(layout, run, status, jobs, snapshot))
    if damage and conclusion.state not in ("queued", "running"):
        conclusion = Conclusion("unknown", damage, None, last, "nothing that can be read")
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


def missing(reconciled_runs: Sequence[ReconciledRun], *, retry: Retry | None, force: bool) -> tuple[ReconciledRun, ...]:
    """What a sweep starts now.

    Without `retry`: new, stopped and lost ones. `failed` (or a class of failure) adds failed ones, `all` also unknown
    ones; `force` takes everything that is neither queued nor running.
    """

    def wanted(reconciled: ReconciledRun) -> bool:
        if force:
            return reconciled.state not in ("queued", "running")
        if reconciled.state == "failed":
            return retry in ("failed", "all") or (retry is not None and retry == reconciled.failure_class)
        return reconciled.state in WANTED or (reconciled.state == "unknown" and retry == "all")

    return tuple(reconciled for reconciled in reconciled_runs if wanted(reconciled))


def to_submit(reconciled_runs: Sequence[ReconciledRun], *, retry: Retry | None, force: bool) -> tuple[PlannedRun, ...]:
    """The runs of `missing`."""
    return tuple(reconciled.run for reconciled in missing(reconciled_runs, retry=retry, force=force))


def sentence(reconciled_runs: Sequence[ReconciledRun], num_to_submit: int) -> str:
    """`0 to submit: 4 done, 0 running, 0 failed`; other states are named when there are any."""
    counts = {state: sum(reconciled.state == state for reconciled in reconciled_runs) for state in get_args(State)}
    shown: tuple[State, ...] = ("done", "running", "failed")
    parts = [f"{counts[state]} {state}" for state in shown]
    parts += [f"{count} {state}" for state, count in counts.items() if count and state not in shown]
    return f"{num_to_submit} to submit: {', '.join(parts)}"
