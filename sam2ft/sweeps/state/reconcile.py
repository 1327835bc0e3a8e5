"""State of each run of a plan, and the selection of the runs that a sweep starts (new, stopped, lost, --retry)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sam2ft.core.errors import DataError
from sam2ft.runs.attempt.status import RunStatus, read_status
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedRun
from sam2ft.runs.states import FailureClass, State
from sam2ft.sweeps.state.run_facts import RunFacts, decider_of, evidence_of, words_of
from sam2ft.sweeps.state.run_state import case_of
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.submit.records import Element, elements_of

Retry = FailureClass | Literal["failed", "all"]


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
    """Return the state of every run of the plan, by the table of cases in run_state.py.

    A run is never called lost only because it is not in the queue, and a state that cannot be determined is `unknown`.
    A status.json that cannot be read affects only its own run.
    """
    elements = elements_of(layout)
    return tuple(
        _reconciled(layout, run, elements.get(run.run_id, ()), snapshot, fresh=plan.fresh) for run in plan.runs
    )


def _reconciled(
    layout: ExperimentLayout, run: PlannedRun, jobs: tuple[Element, ...], snapshot: SlurmSnapshot, *, fresh: bool
) -> ReconciledRun:
    status, damage = None, ""
    try:
        status = read_status(layout.run(run.run_id))
    except DataError as error:
        damage = str(error)
    facts = RunFacts(layout, run, jobs, snapshot, status, damage, fresh)
    decider = None if facts.done else decider_of(facts)
    evidence, words = evidence_of(facts, decider), words_of(facts, decider)
    case = case_of(evidence)
    reason = case.reason.format(**words)
    stuck = [element.job for element in jobs if facts.in_queue(element)]
    if stuck and case.queue not in ("runs", "waits") and case.status not in ("done", "unreadable", "again"):
        note = f"job {', '.join(stuck)} waits for a dependency that can never be satisfied"
        reason = f"{reason}; {note}" if reason else note
    return ReconciledRun(
        run,
        case.state,
        reason,
        status,
        case.failure_class or (status.failure_class if status and case.state is State.FAILED else None),
        jobs,
        words["job"],
        case.source.format(**words),
        words["waits_for"] if case.state is State.QUEUED else None,
    )


def to_submit(reconciled_runs: Sequence[ReconciledRun], *, retry: Retry | None, force: bool) -> tuple[PlannedRun, ...]:
    """Return the runs that a sweep starts now.

    Args:
        retry: None: new, stopped and lost runs, and those whose file system failed; `failed` or a failure class also
            failed runs; `all` also unknown ones.
        force: all runs that are neither queued nor running.
    """

    def wanted(reconciled: ReconciledRun) -> bool:
        if force:
            return not reconciled.state.live
        if reconciled.state is State.FAILED:
            known = reconciled.failure_class
            return retry in ("failed", "all", known) or (known is not None and known.passes)
        return reconciled.state.startable or (reconciled.state is State.UNKNOWN and retry == "all")

    return tuple(reconciled.run for reconciled in reconciled_runs if wanted(reconciled))


def sentence(reconciled_runs: Sequence[ReconciledRun], num_to_submit: int) -> str:
    """Return `0 to submit: 4 done, 0 running, 0 failed`; other states are listed when a run has them."""
    counts = Counter(reconciled.state for reconciled in reconciled_runs)
    always = (State.DONE, State.RUNNING, State.FAILED)
    others = [state for state in State if counts[state] and state not in always]
    parts = [f"{counts[state]} {state}" for state in (*always, *others)]
    return f"{num_to_submit} to submit: {', '.join(parts)}"
