"""Training of one run: builds data, model, loss, optimizer and trainer from the experiment, resumes and trains."""

import math
import sys
from contextlib import nullcontext
from dataclasses import dataclass

from sam2ft.config.schema.evaluation_checks import refuse_unsupported
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.errors import CheckpointError, ConfigError
from sam2ft.core.events import Observer, Observers
from sam2ft.core.labels import LabelTable
from sam2ft.core.prompts import Shares
from sam2ft.data.samples.augment import augmentation_of
from sam2ft.data.samples.dataset import SliceDataset, SliceSettings
from sam2ft.data.samples.example_slices import slices_to_show
from sam2ft.data.samples.loader import EpochBatches, LoaderSettings, train_loader, val_loader
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.distributed.ranks import Ranks, process_group
from sam2ft.distributed.stop_signal import StopRequest
from sam2ft.model.lora import add_low_rank
from sam2ft.model.losses import SegmentationLoss, build_loss
from sam2ft.model.precision import resolve_precision
from sam2ft.model.segmenter import FinetunedSAM2, build_segmenter
from sam2ft.model.trainable import freeze_unreachable, set_trainable
from sam2ft.runs.attempt.claim import Attempt, check_claim
from sam2ft.runs.identity_file import Content, current_identity, of_another_run, write_or_check_identity
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.stores import labelled_records, max_train_subjects, open_stores, stores_by_name, verify_volumes
from sam2ft.training.activation_checkpointing import checkpoint_activations
from sam2ft.training.checkpoints.checkpoint import load_newest_resume, resume_files
from sam2ft.training.early_stopping import StoppingRule
from sam2ft.training.optimizer import build_optimizer
from sam2ft.training.schedule import build_scheduler
from sam2ft.training.state import TrainerContext, TrainerSettings, TrainState
from sam2ft.training.trainer import Trainer
from sam2ft.training.watching.messages import end_text, resume_text, start_text
from sam2ft.training.watching.observers import CheckpointWriter, HistoryWriter, PictureWriter, StatusWriter
from sam2ft.training.watching.trackers import progress_observers

NUM_PICTURES = 4
"""Number of validation slices drawn after every epoch: always the same ones (data/samples/example_slices)."""


@dataclass(frozen=True)
class TrainOutcome:
    """Result of a training."""

    num_epochs: int
    """Trained epochs, including those of earlier attempts."""
    num_steps: int
    best_epoch: int | None
    best_value: float | None
    stopped_early: bool


@dataclass(frozen=True)
class TrainingData:
    """Training and validation batches of this rank, with their stores and volumes."""

    train: EpochBatches
    val: EpochBatches
    stores: tuple[Store, ...]
    records: tuple[VolumeRecord, ...]
    """The volumes of both."""

    @property
    def labels(self) -> LabelTable:
        return self.stores[0].labels


def train(
    experiment: Experiment,
    layout: RunLayout,
    attempt: Attempt,
    *,
    stop: StopRequest,
    fresh: bool,
    planned_world_size: int,
    strict_code: bool = False,
) -> TrainOutcome:
    """Train the experiment's point into `layout`, continuing from its newest resume file unless `fresh`.

    A step has the slices planned for `planned_world_size` processes; `strict_code` requires the code of the plan.

    Raises:
        ConfigError: when the processes cannot share a step evenly.
        StopRequestedError: after saving.
        ClaimedError: when a newer attempt has claimed the run.
    """
    with process_group(layout.folder) as ranks:
        grad_accum = batches_per_rank(experiment, planned_world_size, ranks.world_size)
        data = training_data(experiment, ranks)
        content = begun(experiment, layout, data, ranks, planned_world_size, fresh=fresh, strict_code=strict_code)
        loss = build_loss(experiment.module.loss)
        model = trainable_model(experiment, loss, ranks)
        trainer = make_trainer(model, loss, experiment, data, ranks, grad_accum)
        if fresh and ranks.is_main:
            remove_earlier_results(layout, attempt)
        state = None if fresh else restored_state(trainer, layout, content)
        refuse_different_starts(ranks, state)
        if ranks.is_main:
            _print_stderr(start_text(experiment, layout, data.records, trainer))
        keeper = CheckpointWriter(layout, attempt, experiment, data.labels, content, trainer)
        progress = progress_observers(experiment, layout, stores_by_name(data.stores), state)
        with progress if ranks.is_main else nullcontext(()) as watching:
            first = state.epoch if state else 0
            kept = file_observers(experiment, layout, attempt, data, first) if ranks.is_main else ()
            # The resume file is last: a crash between two observers repeats the epoch, so no output is missing.
            observers = Observers((*watching, *kept, keeper))
            trainer.context = TrainerContext(ranks, observers, stop, keeper.save)
            ended = trainer.fit(data.train, data.val, state)
        if ranks.is_main:
            _print_stderr(end_text(experiment, layout, ended))
    return TrainOutcome(
        num_epochs=ended.epoch,
        num_steps=ended.step,
        best_epoch=ended.stopping.best_epoch,
        best_value=ended.stopping.best,
        stopped_early=ended.epoch < experiment.module.num_epochs,
    )


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


def training_data(experiment: Experiment, ranks: Ranks) -> TrainingData:
    """Data loaders of the train and val splits.

    Raises:
        DataError: for a store or split that cannot be used.
    """
    stores = open_stores(experiment)
    datamodule, module, seed = experiment.datamodule, experiment.module, experiment.experiment.seed
    settings = LoaderSettings(
        batch_size=datamodule.batch_size,
        num_workers=datamodule.num_workers,
        rank=ranks.rank,
        world_size=ranks.world_size,
        pin_memory=ranks.device.type == "cuda",
    )
    shares = Shares(module.prompts.box, module.prompts.point, module.prompts.mask)
    shown = SliceSettings(
        module.image_size, seed, bbox_shift_px=datamodule.bbox_shift, shares=shares, fixed_prompts=True
    )
    jittered = SliceSettings(
        module.image_size,
        seed,
        bbox_shift_px=datamodule.bbox_shift,
        max_instances=module.prompts.max_instances_per_slice,
        augmentation=augmentation_of(datamodule.augmentation),
        shares=shares,
    )
    train_records = labelled_records(stores, "train", max_train_subjects(experiment))
    val_records = labelled_records(stores, "val")
    if ranks.is_main:
        verify_volumes(stores, (*train_records, *val_records))
    # Needed even when no pictures are drawn: they set the order of validation, and so the last bits of its values.
    pictures = slices_to_show(stores, val_records, NUM_PICTURES)
    return TrainingData(
        train=train_loader(SliceDataset(stores, train_records, jittered), settings, balanced=datamodule.balanced),
        val=val_loader(SliceDataset(stores, val_records, shown), settings, pictures),
        stores=stores,
        records=(*train_records, *val_records),
    )


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
    if ranks.is_main and (message := write_or_check_identity(layout, name, content, data.stores, fresh=fresh)):
        _print_stderr(message)
    return content


def trainable_model(experiment: Experiment, loss: SegmentationLoss, ranks: Ranks) -> FinetunedSAM2:
    """The model with its initial weights; the selected parameters that get a gradient require one."""
    module = experiment.module
    refuse_unsupported(experiment.eval)
    model = build_segmenter(
        module.sam2_model_cfg, image_size=module.image_size, checkpoint=module.sam2_checkpoint, device=ranks.device
    )
    set_trainable(model, module.trainable, low_rank=module.lora is not None)
    if module.lora is not None:
        add_low_rank(model, module.lora, experiment.experiment.seed)
    if module.activation_checkpointing:
        # Before the trial step of freeze_unreachable, which would otherwise need the memory that this saves.
        checkpoint_activations(model)
    report = freeze_unreachable(model, loss, module.prompts)
    if ranks.is_main:
        _print_stderr(str(report))
    return model


def make_trainer(
    model: FinetunedSAM2,
    loss: SegmentationLoss,
    experiment: Experiment,
    data: TrainingData,
    ranks: Ranks,
    grad_accum: int,
) -> Trainer:
    """The trainer with optimizer and schedule, but without observers."""
    module = experiment.module
    rule = module.early_stopping
    steps_per_epoch = math.ceil(len(data.train) / grad_accum)
    settings = TrainerSettings(
        num_epochs=module.num_epochs,
        seed=experiment.experiment.seed,
        precision=resolve_precision(module.use_amp, ranks.device),
        grad_accum=grad_accum,
        clip_grad=module.clip_grad,
        max_skipped_steps=module.max_skipped_steps,
        ema_decay=None if module.ema is None else module.ema.decay,
        stopping=StoppingRule(rule.enabled, rule.monitor, rule.mode, rule.patience, rule.min_delta),
        steps_per_epoch=steps_per_epoch,
        num_samples=NUM_PICTURES if module.visualize else 0,
    )
    optimizer = build_optimizer(model, module.optimizer)
    schedule = build_scheduler(
        optimizer, module.scheduler, steps_per_epoch=steps_per_epoch, num_epochs=module.num_epochs
    )
    return Trainer(model, loss, optimizer, schedule, settings, TrainerContext(ranks))


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
    layout.history.unlink(missing_ok=True)


def file_observers(
    experiment: Experiment, layout: RunLayout, attempt: Attempt, data: TrainingData, first_epoch: int
) -> tuple[Observer, ...]:
    """Observers that write pictures, status and history."""
    module, rule = experiment.module, experiment.module.early_stopping
    pictures = (PictureWriter(layout, attempt, stores_by_name(data.stores)),) if module.visualize else ()
    status = StatusWriter(layout, attempt, module.num_epochs, rule.monitor, rule.mode)
    return (*pictures, status, HistoryWriter(layout, attempt, first_epoch))


def _print_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
