"""Where each run of a plan stands, and what a sweep starts because of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sam2ft.core.errors import DataError
from sam2ft.runs.attempt.status import FailureClass, RunStatus, read_status
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.runs.plan_file import Plan, PlannedRun, evaluation_is_current
from sam2ft.sweeps.state.run_state import Case, State, Verdict, judge
from sam2ft.sweeps.state.slurm_snapshot import Evidence
from sam2ft.sweeps.submit.records import Element, elements_of

__all__ = ["Standing", "State", "missing", "reconcile", "sentence", "to_submit"]

WANTED: frozenset[State] = frozenset({"new", "stopped", "lost"})
"""States that a sweep submits without being asked."""

Retry = Literal["failed", "error", "oom", "timeout", "no_progress", "all"]


@dataclass(frozen=True)
class Standing:
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


def reconcile(layout: ExperimentLayout, plan: Plan, evidence: Evidence) -> tuple[Standing, ...]:
    """Where every run of the plan stands.

    In this order: what the run itself says when it is done; the queue; how accounting says its last job ended; the
    run's heartbeat; the run's last word. Not being in the queue alone never means dead, and what cannot be known is
    `unknown`. A status.json that cannot be read is the reason of its own run alone.
    """
    elements = elements_of(layout)
    return tuple(_standing(layout, run, elements.get(run.run_id, ()), evidence, fresh=plan.fresh) for run in plan.runs)


def _standing(
    layout: ExperimentLayout, run: PlannedRun, jobs: tuple[Element, ...], evidence: Evidence, *, fresh: bool
) -> Standing:
    place, status, damage = layout.run(run.run_id), None, ""
    last = jobs[-1].job if jobs else None
    try:
        status = read_status(place)
        if status is not None and status.state == "done" and not fresh and _evaluated(place, run, status):
            return Standing(run, "done", "", status, None, jobs, last, "its own last word")
    except DataError as error:
        damage = str(error)
    verdict = judge(Case(layout, run, status, jobs, evidence))
    if damage and verdict.state not in ("queued", "running"):
        verdict = Verdict("unknown", damage, None, last, "nothing that can be read")
    elif fresh and verdict.state == "new" and status is not None:
        verdict = Verdict("new", "to be trained again", None, last, verdict.source)
    return Standing(
        run,
        verdict.state,
        verdict.reason,
        status,
        verdict.failure_class,
        jobs,
        verdict.job or last,
        verdict.source,
        verdict.waits_for,
    )


def _evaluated(layout: RunLayout, run: PlannedRun, status: RunStatus) -> bool:
    return all(evaluation_is_current(layout, run, eval_id, status.best_sha256) for eval_id in run.eval_ids)


def missing(standings: Sequence[Standing], *, retry: Retry | None, force: bool) -> tuple[Standing, ...]:
    """What a sweep starts now.

    Without `retry`: new, stopped and lost ones. `failed` (or a class of failure) adds failed ones, `all` also unknown
    ones; `force` takes everything that is neither queued nor running.
    """

    def wanted(standing: Standing) -> bool:
        if force:
            return standing.state not in ("queued", "running")
        if standing.state == "failed":
            return retry in ("failed", "all") or (retry is not None and retry == standing.failure_class)
        return standing.state in WANTED or (standing.state == "unknown" and retry == "all")

    return tuple(standing for standing in standings if wanted(standing))


def to_submit(standings: Sequence[Standing], *, retry: Retry | None, force: bool) -> tuple[PlannedRun, ...]:
    """The runs of `missing`."""
    return tuple(standing.run for standing in missing(standings, retry=retry, force=force))


def sentence(standings: Sequence[Standing], num_to_submit: int) -> str:
    """`0 to submit: 4 done, 0 running, 0 failed`; other states are named when there are any."""
    counts = {state: sum(standing.state == state for standing in standings) for state in get_args(State)}
    shown: tuple[State, ...] = ("done", "running", "failed")
    parts = [f"{counts[state]} {state}" for state in shown]
    parts += [f"{count} {state}" for state, count in counts.items() if count and state not in shown]
    return f"{num_to_submit} to submit: {', '.join(parts)}"
