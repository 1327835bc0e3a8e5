"""What a sweep hands to Slurm for each run: a training with its evaluation, or an evaluation and what it waits for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam2ft.cluster.queue import QueueEntry
from sam2ft.cluster.records import Element
from sam2ft.cluster.standing import Standing
from sam2ft.core.layout import ExperimentLayout
from sam2ft.run.job import is_trained
from sam2ft.run.planned import Plan, PlannedRun, evaluation_is_current


@dataclass(frozen=True)
class Wanted:
    """What is to be submitted for one run."""

    run: PlannedRun
    train: bool
    """True: a training, and an evaluation that starts when it has ended well. False: an evaluation alone."""
    after: tuple[str, ...] = ()
    """Queued or running Slurm jobs of the same run that an evaluation alone waits for: its training has to end well,
    other evaluations have to end (claim.json allows one writer)."""


def wanted_of(
    layout: ExperimentLayout,
    plan: Plan,
    standings: Sequence[Standing],
    chosen: Sequence[PlannedRun],
    queue: Mapping[str, QueueEntry],
) -> tuple[Wanted, ...]:
    """What to submit, in the order of the plan, given all standings of the plan and the runs that a sweep starts now.

    To the `chosen` ones this adds the evaluations that nobody makes although their training (or another evaluation of
    the run) is queued or running: what a launcher that died, or other `eval:` settings, have left to do.
    """
    started = {run.run_id for run in chosen}
    found = (_wanted(layout, plan, standing, queue, chosen=standing.run.run_id in started) for standing in standings)
    return tuple(wanted for wanted in found if wanted is not None)


def _wanted(
    layout: ExperimentLayout, plan: Plan, standing: Standing, queue: Mapping[str, QueueEntry], *, chosen: bool
) -> Wanted | None:
    run = standing.run
    live = [element for element in standing.jobs if element.job in queue]
    trainings = [element for element in live if element.stage != "eval"]
    evaluations = [element for element in live if element.stage == "eval"]
    if trainings:
        last = trainings[-1]
        makers = [element for element in live if element.submission >= last.submission and element.stage != "train"]
        if _cover(makers, run.eval_ids):
            return None
        return Wanted(run, train=False, after=(last.job, *(element.job for element in evaluations)))
    if evaluations and _cover(evaluations, _missing(layout, run, standing)):
        return None
    if not chosen and not evaluations:
        return None
    trained = run.baseline or (is_trained(layout.run(run.run_id)) and not (plan.fresh and chosen))
    if not trained:
        return Wanted(run, train=True) if chosen else None
    return Wanted(run, train=False, after=tuple(element.job for element in evaluations))


def _missing(layout: ExperimentLayout, run: PlannedRun, standing: Standing) -> list[str]:
    """Evaluations of the run that are not there, or were made with other weights."""
    best = standing.status.best_sha256 if standing.status else None
    place = layout.run(run.run_id)
    return [eval_id for eval_id in run.eval_ids if not evaluation_is_current(place, run, eval_id, best)]


def _cover(makers: Sequence[Element], needed: Sequence[str]) -> bool:
    """Whether the jobs make all `needed` evaluations; one whose record does not say which makes all."""
    made = {eval_id for element in makers for eval_id in element.eval_ids}
    return any(not element.eval_ids for element in makers) or set(needed) <= made
