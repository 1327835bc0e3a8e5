"""Where each run of a plan stands, and what a sweep starts because of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sam2ft.cluster.evidence import Evidence
from sam2ft.cluster.queue import QueueEntry
from sam2ft.cluster.records import elements_of
from sam2ft.core.layout import ExperimentLayout, RunLayout
from sam2ft.run.claim import LOCAL
from sam2ft.run.planned import Plan, PlannedRun, evaluation_is_current
from sam2ft.run.status import ACTIVE, SILENCE_S, FailureClass, RunStatus, read_status

State = Literal["new", "queued", "running", "stopped", "failed", "lost", "unknown", "done"]
"""What a plan says of a run; `starting`, `training` and `evaluating` of status.json are `running`."""

WANTED: frozenset[State] = frozenset({"new", "stopped", "lost"})
"""States that a sweep submits without being asked."""

Retry = Literal["failed", "error", "oom", "timeout", "all"]


@dataclass(frozen=True)
class Standing:
    """Where one planned run stands."""

    run: PlannedRun
    state: State
    reason: str
    """Why it is not done; empty when there is nothing to say."""
    status: RunStatus | None
    failure_class: FailureClass | None = None


def reconcile(layout: ExperimentLayout, plan: Plan, evidence: Evidence) -> tuple[Standing, ...]:
    """Where every run of the plan stands.

    In this order: what the run itself says when it is done; the queue; the run's heartbeat; the run's last word. Not
    being in the queue alone never means dead, and what cannot be known is `unknown`.
    """
    elements = elements_of(layout)
    return tuple(
        _standing(layout.run(run.run_id), run, elements.get(run.run_id, ()), evidence.queue, fresh=plan.fresh)
        for run in plan.runs
    )


def _standing(
    layout: RunLayout, run: PlannedRun, jobs: Sequence[str], queue: Mapping[str, QueueEntry] | None, *, fresh: bool
) -> Standing:
    status = read_status(layout)
    if status is not None and status.state == "done" and not fresh and _evaluated(layout, run, status):
        return Standing(run, "done", "", status)
    if queue is not None and (queued := [job for job in jobs if job in queue]):
        job, entry = queued[-1], queue[queued[-1]]
        state: State = "queued" if entry.waits else "running"
        return Standing(run, state, f"job {job} {entry.state}: {entry.reason}" if entry.waits else "", status)
    if status is None:
        return _standing_of_unstarted(run, jobs, queue)
    if status.state in ACTIVE:
        return _standing_of_active(run, status, queue)
    if status.state == "done":
        return Standing(run, "new", "to be trained again" if fresh else "evaluation is missing or stale", status)
    state = "failed" if status.state == "failed" else "stopped"
    return Standing(run, state, status.reason, status, status.failure_class)


def _evaluated(layout: RunLayout, run: PlannedRun, status: RunStatus) -> bool:
    return all(evaluation_is_current(layout, run, eval_id, status.best_sha256) for eval_id in run.eval_ids)


def _standing_of_unstarted(run: PlannedRun, jobs: Sequence[str], queue: Mapping[str, QueueEntry] | None) -> Standing:
    if jobs and queue is None:
        return Standing(run, "unknown", f"job {jobs[-1]} was submitted, and there is no queue to ask here", None)
    return Standing(run, "new", f"job {jobs[-1]} left the queue before it started" if jobs else "", None)


def _standing_of_active(run: PlannedRun, status: RunStatus, queue: Mapping[str, QueueEntry] | None) -> Standing:
    attempt, silence_s = status.attempt, status.silence_s()
    if attempt.is_dead():
        return Standing(run, "lost", f"{attempt} is gone without a last word", status)
    if silence_s < SILENCE_S:
        return Standing(run, "running", "", status)
    if attempt.job != LOCAL and queue is None:
        return Standing(
            run, "unknown", f"{attempt} is silent for {silence_s:.0f} s, and there is no queue here", status
        )
    return Standing(run, "lost", f"{attempt} is silent for {silence_s:.0f} s and not in the queue", status)


def to_submit(standings: Sequence[Standing], *, retry: Retry | None, force: bool) -> tuple[PlannedRun, ...]:
    """The runs that a sweep starts now.

    Without `retry`: new, stopped and lost ones. `failed` (or a class of failure) adds failed ones, `all` also unknown
    ones; `force` takes everything that is neither queued nor running.
    """

    def wanted(standing: Standing) -> bool:
        if force:
            return standing.state not in ("queued", "running")
        if standing.state == "failed":
            return retry in ("failed", "all") or (retry is not None and retry == standing.failure_class)
        return standing.state in WANTED or (standing.state == "unknown" and retry == "all")

    return tuple(standing.run for standing in standings if wanted(standing))


def sentence(standings: Sequence[Standing], num_to_submit: int) -> str:
    """`0 to submit: 4 done, 0 running, 0 failed`; other states are named when there are any."""
    counts = {state: sum(standing.state == state for standing in standings) for state in get_args(State)}
    shown: tuple[State, ...] = ("done", "running", "failed")
    parts = [f"{counts[state]} {state}" for state in shown]
    parts += [f"{count} {state}" for state, count in counts.items() if count and state not in shown]
    return f"{num_to_submit} to submit: {', '.join(parts)}"
