"""Training of one run: builds data, model, loss, optimizer and trainer from the experiment, resumes and trains."""

import sys
from contextlib import nullcontext

from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.errors import CheckpointError, ConfigError
from sam2ft.core.events import Observer, Observers
from sam2ft.distributed.ranks import Ranks, process_group
from sam2ft.distributed.stop_signal import StopRequest
from sam2ft.runs.attempt.claim import Attempt, check_claim
from sam2ft.runs.hardware import TRAINING, record_computed
from sam2ft.runs.history import remove_history
from sam2ft.runs.identity_file import (
    Content,
    current_identity,
    of_another_run,
    own_identity,
    write_or_check_identity,
)
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.stores import stores_by_name
from sam2ft.training.build_trainer import build_trainer
from sam2ft.training.checkpoints.checkpoint import load_newest_resume, resume_files
from sam2ft.training.checkpoints.heal import heal_best
from sam2ft.training.compiled_trunk import stopped_compilation
from sam2ft.training.data import TrainingData, training_data
from sam2ft.training.optimizer import chooses_fused
from sam2ft.training.state import TrainerContext, TrainState
from sam2ft.training.trainer import Trainer
from sam2ft.training.watching.messages import end_text, resume_text, start_text
from sam2ft.training.watching.observers import CheckpointWriter, HistoryWriter, PictureWriter, StatusWriter
from sam2ft.training.watching.trackers import progress_observers


def train(
    experiment: Experiment,
    layout: RunLayout,
    attempt: Attempt,
    *,
    stop: StopRequest,
    fresh: bool,
    planned_world_size: int,
    strict_code: bool = False,
) -> TrainState:
    """Train the experiment's point into `layout`, continuing from its newest resume file unless `fresh`.

    Returns the final state, which counts the epochs and steps of earlier attempts too.

    A step has the slices planned for `planned_world_size` processes; `strict_code` requires the code of the plan.

    Raises:
        ConfigError: when the processes cannot share a step evenly.
        StopRequestedError: after saving.
        ClaimedError: when a newer attempt has claimed the run.
    """
    with process_group(layout.folder) as ranks, stopped_compilation(stop):
        grad_accum = batches_per_rank(experiment, planned_world_size, ranks.world_size)
        data = training_data(experiment, ranks)
        content = begun(experiment, layout, data, ranks, planned_world_size, fresh=fresh, strict_code=strict_code)
        trainer = build_trainer(experiment, data, ranks, grad_accum, fused=began_fused(layout, ranks))
        if fresh and ranks.is_main:
            remove_earlier_results(layout, attempt)
        state = None if fresh else restored_state(trainer, layout, content)
        refuse_different_starts(ranks, state)
        record_computed(layout, attempt, ranks, stage=TRAINING, precision=trainer.settings.precision)
        if ranks.is_main:
            _print_stderr(start_text(experiment, layout, data.records, trainer))
        keeper = CheckpointWriter(layout, attempt, experiment, data.labels, content, trainer)
        if state is not None and ranks.is_main:
            check_best(trainer, layout, state, keeper)
        progress = progress_observers(experiment, layout, stores_by_name(data.stores), state)
        with progress if ranks.is_main else nullcontext(()) as watching:
            first = state.epoch if state else 0
            kept = file_observers(experiment, layout, attempt, data, first) if ranks.is_main else ()
            keeper.history = next((one for one in kept if isinstance(one, HistoryWriter)), None)
            # The resume file is last: a crash between two observers repeats the epoch, so no output is missing.
            observers = Observers((*watching, *kept, keeper))
            trainer.context = TrainerContext(ranks, observers, stop, keeper.save)
            ended = trainer.fit(data.train, data.val, state)
        if ranks.is_main:
            # What a long training wrote hours ago is read once more before its digest is recorded.
            heal_best(layout, trainer, ended, keeper.info)
            _print_stderr(end_text(experiment, layout, ended))
    return ended


def batches_per_rank(experiment: Experiment, planned_world_size: int, world_size: int) -> int:
    """Number of batches that each rank accumulates for one step, so that the step has the planned number of slices.

    Raises:
        ConfigError: with the numbers, when the ranks cannot share the batches evenly.
    """
    batches = experiment.module.grad_accum * planned_world_size
    if batches % world_size:
        size = experiment.datamodule.batch_size
        raise ConfigError(
            f"a step of this run is {batches * size} slices ({batches} batches of datamodule.batch_size {size}: "
            f"module.grad_accum {experiment.module.grad_accum} x {planned_world_size} planned processes), which "
            f"{world_size} processes cannot share evenly; use a divisor of {batches}, or plan with other resources"
        )
    return batches // world_size


def begun(
    experiment: Experiment,
    layout: RunLayout,
    data: TrainingData,
    ranks: Ranks,
    planned_world_size: int,
    *,
    fresh: bool,
    strict_code: bool,
) -> Content:
    """The content that defines the run's name.

    Raises:
        DataError: on the main rank, when it differs from the content with which the run began.
    """
    size = experiment.datamodule.batch_size * experiment.module.grad_accum * planned_world_size
    name, content = current_identity(experiment, data.records, size, strict_code=strict_code)
    fused = chooses_fused(experiment.module.optimizer, ranks.device.type)
    began = {"fused": True} if fused else {}
    if ranks.is_main and (
        message := write_or_check_identity(layout, name, content, data.stores, fresh=fresh, began=began)
    ):
        _print_stderr(message)
    return content


def began_fused(layout: RunLayout, ranks: Ranks) -> bool:
    """Whether the run began with a fused optimizer, the same on all ranks; runs of earlier versions did not."""
    identity = own_identity(layout) if ranks.is_main else None
    fused = bool((identity or {}).get("began", {}).get("fused"))
    return bool(ranks.maxima([float(fused)])[0])


def restored_state(trainer: Trainer, layout: RunLayout, content: Content) -> TrainState | None:
    """Restore the run's newest resume file into `trainer` and return its state; None when there is no such file.

    Raises:
        CheckpointError: for a file of another run, with every key in which it differs.
    """
    newest = load_newest_resume(layout.checkpoints)
    if newest is None:
        return None
    if newest.snapshot["run"] != layout.run_id:
        raise CheckpointError(of_another_run(newest.path, newest.snapshot, layout, content))
    state = trainer.restore(newest.snapshot)
    if trainer.ranks.is_main:
        _print_stderr(resume_text(state, newest.path))
    return state


def check_best(trainer: Trainer, layout: RunLayout, state: TrainState, keeper: CheckpointWriter) -> None:
    """Verify best.pt before a training continues from `state`; a damaged one is made again, when that is possible.

    Raises:
        CheckpointError: it is damaged, and the resume file of its epoch is gone.
    """
    if heal_best(layout, trainer, state, keeper.info):
        newest = load_newest_resume(layout.checkpoints)
        assert newest is not None, "the state came from one"
        trainer.restore(newest.snapshot)


def refuse_different_starts(ranks: Ranks, state: TrainState | None) -> None:
    """Check that all ranks resume from the same step: a network file system may show an older file to another node.

    Raises:
        CheckpointError: with the steps, on all ranks.
    """
    steps = [int(step) for (step,) in ranks.gather([0 if state is None else state.step])]
    if len(set(steps)) > 1:
        raise CheckpointError(
            f"the processes read different resume files, of steps {', '.join(map(str, steps))} in order of rank; "
            "start again when all nodes see the same files"
        )


def remove_earlier_results(layout: RunLayout, attempt: Attempt) -> None:
    """Remove resume files and history before a fresh training; best.pt stays until a new one replaces it."""
    check_claim(layout, attempt)
    for path in resume_files(layout.checkpoints):
        path.unlink()
    remove_history(layout)


def file_observers(
    experiment: Experiment, layout: RunLayout, attempt: Attempt, data: TrainingData, first_epoch: int
) -> tuple[Observer, ...]:
    """Observers that write pictures, status and history."""
    module = experiment.module
    pictures = (PictureWriter(layout, attempt, stores_by_name(data.stores)),) if module.visualize else ()
    status = StatusWriter(layout, attempt, module)
    return (*pictures, status, HistoryWriter(layout, attempt, first_epoch))


def _print_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
