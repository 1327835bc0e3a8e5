"""Jobs to submit for each run: a training with its evaluation, or an evaluation with the jobs that it waits for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam2ft.runs.attempt.status import is_trained
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedRun, evaluation_is_current
from sam2ft.slurm.lookup import NO_QUEUE, SubmissionError
from sam2ft.slurm.queue import QueueEntry
from sam2ft.sweeps.state.reconcile import ReconciledRun
from sam2ft.sweeps.submit.records import Element


@dataclass(frozen=True)
class WantedJobs:
    """Jobs to submit for one run."""

    run: PlannedRun
    train: bool
    """True: a training, and an evaluation that starts when it ended successfully. False: an evaluation alone."""
    after: tuple[str, ...] = ()
    """Queued or running Slurm jobs of the same run that an evaluation alone waits for: its training has to end
    successfully, other evaluations have to end (claim.json allows one writer)."""


def wanted_of(
    layout: ExperimentLayout,
    plan: Plan,
    reconciled_runs: Sequence[ReconciledRun],
    chosen: Sequence[PlannedRun],
    queue: Mapping[str, QueueEntry] | None,
) -> tuple[WantedJobs, ...]:
    """Return the jobs to submit, in the order of the plan.

    To the `chosen` runs this adds evaluations that no job will make although their training (or another evaluation of
    the run) is queued or running: after a launcher was killed, or when the `eval:` settings were changed.

    Args:
        reconciled_runs: states of all runs of the plan.
        chosen: runs that the sweep starts now.

    Raises:
        SubmissionError: squeue did not answer; a job could be submitted twice.
    """
    if queue is None:
        raise SubmissionError(NO_QUEUE)
    started = {run.run_id for run in chosen}
    found = (
        _wanted(layout, plan, reconciled, queue, chosen=reconciled.run.run_id in started)
        for reconciled in reconciled_runs
    )
    return tuple(wanted for wanted in found if wanted is not None)


def _wanted(
    layout: ExperimentLayout, plan: Plan, reconciled: ReconciledRun, queue: Mapping[str, QueueEntry], *, chosen: bool
) -> WantedJobs | None:
    run = reconciled.run
    live = [element for element in reconciled.jobs if element.job in queue and not queue[element.job].stuck]
    evaluations = [element for element in live if element.stage == "eval"]
    after = tuple(element.job for element in evaluations)
    if trainings := [element for element in live if element.stage != "eval"]:
        last = trainings[-1]
        makers = [element for element in live if element.submission >= last.submission and element.stage != "train"]
        return None if _cover(makers, run.eval_ids) else WantedJobs(run, train=False, after=(last.job, *after))
    trained = run.baseline or (is_trained(layout.run(run.run_id)) and not (plan.fresh and chosen))
    if not trained:
        return WantedJobs(run, train=True) if chosen else None
    if evaluations:
        return None if _cover(evaluations, _missing(layout, reconciled)) else WantedJobs(run, train=False, after=after)
    return WantedJobs(run, train=False) if chosen else None


def _missing(layout: ExperimentLayout, reconciled: ReconciledRun) -> list[str]:
    """Evaluations of a run that do not exist, or were made with other weights."""
    run, best = reconciled.run, reconciled.status.best_sha256 if reconciled.status else None
    run_layout = layout.run(run.run_id)
    return [eval_id for eval_id in run.eval_ids if not evaluation_is_current(run_layout, run, eval_id, best)]


def _cover(makers: Sequence[Element], needed: Sequence[str]) -> bool:
    """Whether the jobs make all `needed` evaluations; a job whose record does not list its evaluations makes all."""
    made = {eval_id for element in makers for eval_id in element.eval_ids}
    return any(not element.eval_ids for element in makers) or set(needed) <= made
