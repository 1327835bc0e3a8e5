"""Restart limits: whether a stopped run may be requeued, by restarts left and progress of the last ones. No torch."""

import os
from pathlib import Path

from sam2ft.core.digests.verified_files import read_sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import listed_files, listed_names
from sam2ft.runs.attempt.claim import LOCAL, MAX_RESTARTS, Attempt
from sam2ft.runs.attempt.status import Progress, RunStatus, status_if_readable
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.plan_file import PlannedRun, evaluation_is_current
from sam2ft.runs.states import FailureClass

MAX_IDLE_RESTARTS = 2
"""Consecutive restarts without a new optimizer step or a newly finished volume after which a run fails."""


class NotRestartableError(Exception):
    """The run saved its state but is not continued automatically. Exit code 1."""

    def __init__(self, failure_class: FailureClass, message: str):
        super().__init__(message)
        self.failure_class = failure_class


def progress_of(layout: RunLayout, run: PlannedRun) -> Progress:
    """Return (1 when trained, last saved step, finished evaluations, finished volumes of the others); it only grows."""
    status = status_if_readable(layout)
    trained, best = (status.trained, status.best_sha256) if status else (False, None)
    stems = [name.removesuffix(".safetensors") for name in listed_names(layout.checkpoints, "*.safetensors")]
    steps = [int(stem) for stem in stems if stem.isdecimal()]
    current = [eval_id for eval_id in run.eval_ids if evaluation_is_current(layout, run, eval_id, best)]
    volumes = sum(_num_parts(layout, eval_id, best) for eval_id in run.eval_ids if eval_id not in current)
    return int(trained), max(steps, default=0), len(current), volumes


def _num_parts(layout: RunLayout, eval_id: str, best_sha256: str | None) -> int:
    """Number of finished volumes of an incomplete evaluation; volumes of other weights, or damaged, do not count."""
    parts = layout.evaluation(eval_id).parts
    found = (path for dataset in listed_names(parts) for path in listed_files(parts / dataset, "*.json"))
    return sum(_is_of(path, best_sha256) for path in found)


def _is_of(part: Path, best_sha256: str | None) -> bool:
    try:
        return best_sha256 in (None, read_sealed_json(part).get("checkpoint_sha256"))
    except (AttributeError, DataError):
        return False


def idle_restarts(status: RunStatus, now: Progress) -> int:
    """Return the number of consecutive restarts without progress.

    The last of them is the attempt of `status`, which ends with the progress `now`.
    """
    if status.attempt.restart == 0 or status.progress is None or now > status.progress:
        return 0
    return status.idle_restarts + 1


def idle_before(before: RunStatus | None, attempt: Attempt, now: Progress) -> int:
    """Return `idle_restarts` at the start of `attempt`, also when the previous attempt wrote no final status."""
    if before is None or attempt.job == LOCAL or before.attempt.job != attempt.job:
        return 0
    return idle_restarts(before, now) if before.attempt.restart < attempt.restart else before.idle_restarts


def refuse_idle(num_idle: int) -> None:
    """Refuse to continue after too many restarts without progress.

    Raises:
        NotRestartableError: class `no_progress`, from MAX_IDLE_RESTARTS on.
    """
    if num_idle >= MAX_IDLE_RESTARTS:
        raise NotRestartableError(
            FailureClass.NO_PROGRESS,
            f"{num_idle} restarts in a row without a new step or a newly evaluated volume; not continued "
            "automatically: increase its time limit or the stop lead (slurm.stop_lead_s of the site), or save more "
            "checkpoints",
        )


def refuse_requeue(layout: RunLayout, run: PlannedRun, attempt: Attempt, *, warned: bool) -> None:
    """Refuse to requeue the job again; called inside a Slurm allocation after everything was saved.

    Args:
        warned: Slurm announced the time limit. A job that received SIGTERM (cancelled or preempted) has not run out of
            time, even on its last restart.

    Raises:
        NotRestartableError: the job must not be requeued again.
    """
    status = status_if_readable(layout)
    if status is not None and (status.attempt.job, status.attempt.restart) == (attempt.job, attempt.restart):
        refuse_idle(idle_restarts(status, progress_of(layout, run)))
    allowed = os.environ.get(MAX_RESTARTS)
    if warned and allowed is not None and attempt.restart >= int(allowed):
        raise NotRestartableError(
            FailureClass.TIMEOUT,
            f"no restart left ({attempt.restart} of {allowed}); saved: --retry timeout continues it",
        )
