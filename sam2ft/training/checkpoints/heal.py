"""best.pt that is damaged or missing is made again from the resume file of its epoch."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from sam2ft.core.errors import CheckpointError
from sam2ft.model.files.read import read_weight_file
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.trained_weights import other_weights
from sam2ft.training.checkpoints.checkpoint import Resume, read_resume, resume_files, save_best
from sam2ft.training.state import TrainState
from sam2ft.training.trainer import Trainer

_log = logging.getLogger(__name__)

Info = Callable[[int, int, float], Mapping[str, Any]]
"""The metadata of best.pt, from its epoch, step and monitored value."""


def heal_best(layout: RunLayout, trainer: Trainer, state: TrainState, info: Info) -> bool:
    """Verify best.pt of a training with the state `state`; make it again, byte by byte, when it is damaged or missing.

    Returns:
        whether it was made again; then the trainer has the state of the best epoch.

    Raises:
        CheckpointError: it is damaged, and the resume file of its epoch is no longer there.
    """
    best = state.stopping.best_epoch
    if best is None or (problem := _problem(layout)) is None:
        return False
    source = _of_epoch(layout, best)
    if source is None:
        raise CheckpointError(
            f"{problem}; no resume file of epoch {best + 1} is left to make it again: train again from the start with "
            f"`python launch/train.py {layout.config} --fresh` (a sweep: launch/sweep.py with --force)"
        )
    _log.warning("%s; it is made again from %s", problem, source.path.name)
    then = trainer.restore(source.snapshot)
    # Of an epoch that was the best, there is a value.
    save_best(layout.best, trainer.weights(), info(best, then.step, float(then.stopping.best or 0.0)))
    return True


def _problem(layout: RunLayout) -> str | None:
    """Why best.pt cannot be used; None when it can."""
    try:
        read_weight_file(layout.best)
    except CheckpointError as error:
        return str(error)
    return other_weights(layout)


def _of_epoch(layout: RunLayout, epoch: int) -> Resume | None:
    """The resume file that was written right after this best epoch; None when it is gone or damaged."""
    for path in resume_files(layout.checkpoints):
        try:
            snapshot = read_resume(path)
        except CheckpointError:
            continue
        state = TrainState.from_state_dict(snapshot["state"])
        if (state.epoch, state.step_in_epoch, state.stopping.best_epoch) == (epoch + 1, 0, epoch):
            return Resume(path, snapshot)
    return None
