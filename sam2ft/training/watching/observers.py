"""Observers that write the files of a run: history.csv, checkpoints, status.json, validation pictures."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.module import Module
from sam2ft.core.digests.verified_files import tell_damage
from sam2ft.core.errors import DataError
from sam2ft.core.events import EpochDone, SlicePrediction, StepDone
from sam2ft.core.files import replacing
from sam2ft.core.labels import LabelTable
from sam2ft.core.tables.rows import cell
from sam2ft.data.store.store import Store
from sam2ft.runs.attempt.claim import Attempt, check_claim
from sam2ft.runs.attempt.status import update_status
from sam2ft.runs.history import history_rows, history_text, read_history, write_history
from sam2ft.runs.identity_file import Content
from sam2ft.runs.layout import RunLayout
from sam2ft.training.checkpoints.checkpoint import load_newest_resume, save_best, save_resume
from sam2ft.training.state import TrainState
from sam2ft.training.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATUS_EVERY_S = 5.0


class SilentObserver:
    """An observer that ignores all events; subclasses override the methods they need."""

    def on_step(self, event: StepDone, state: TrainState) -> None: ...

    def on_epoch(self, event: EpochDone, state: TrainState) -> None: ...

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None: ...


class HistoryWriter(SilentObserver):
    """history.csv: one row per epoch, `epoch, step, improved, seconds`, then the epoch's values by name."""

    def __init__(self, layout: RunLayout, attempt: Attempt, first_epoch: int = 0):
        self._layout, self._attempt = layout, attempt
        # Epochs that are trained again after a crash replace the rows of the crashed attempt.
        self.rows = [row for row in known_history(layout) if int(row["epoch"]) < first_epoch]

    def on_epoch(self, event: EpochDone, state: TrainState) -> None:
        fixed = {"epoch": event.epoch, "step": event.step, "improved": int(event.improved), "seconds": event.seconds}
        self.rows.append({name: cell(value) for name, value in (fixed | dict(event.values)).items()})
        check_claim(self._layout, self._attempt)
        write_history(self._layout, self.rows)


def known_history(layout: RunLayout) -> list[dict[str, str]]:
    """The rows of history.csv; where it is damaged or away, those of the newest resume file, which become it again.

    Raises:
        DataError: it is damaged, and no resume file holds its rows (one of an earlier version).
    """
    try:
        if (found := read_history(layout)) or layout.history.is_file():
            return found
        damage = DataError(f"{layout.history}: no such file")
    except DataError as error:
        damage = error
    newest = load_newest_resume(layout.checkpoints)
    text: str | None = newest.snapshot.get("history") if newest else ""
    if text is None:
        if not layout.history.is_file():  # removed on purpose, and the resume file is of an earlier version
            return []
        raise damage
    rows = history_rows(text)
    if newest is not None and (rows or layout.history.is_file()):  # there are none before the first epoch has ended
        tell_damage(f"{damage}; written again from {newest.path.name}")
        write_history(layout, rows)
    return rows


@dataclass
class CheckpointWriter(SilentObserver):
    """Writes best.pt after the best epoch so far, and resume files by time, steps, epochs and on a stop request."""

    layout: RunLayout
    attempt: Attempt
    experiment: Experiment
    labels: LabelTable
    content: Content
    trainer: Trainer
    history: HistoryWriter | None = None
    """Its rows are kept in the resume files."""
    _saved_at: float = field(default_factory=time.monotonic)

    def on_step(self, event: StepDone, state: TrainState) -> None:
        settings = self.experiment.module.checkpoint
        by_steps = settings.every_steps is not None and event.step % settings.every_steps == 0
        by_clock = (
            settings.every_minutes is not None and time.monotonic() - self._saved_at >= 60 * settings.every_minutes
        )
        if by_steps or by_clock:
            self.save(state)

    def on_epoch(self, event: EpochDone, state: TrainState) -> None:
        if event.improved:
            check_claim(self.layout, self.attempt)
            value = event.values[self.experiment.module.early_stopping.monitor]
            save_best(self.layout.best, self.trainer.weights(), self.info(event.epoch, event.step, value))
        module = self.trainer.settings.module
        is_last = state.epoch >= module.num_epochs or state.stopping.says_stop(module.early_stopping)
        # After a change of best.pt a resume file is always written: a crash must not restart before the best epoch.
        if event.improved or module.checkpoint.every_epoch or is_last:
            self.save(state)

    def save(self, state: TrainState) -> None:
        """Write the resume file of `state`."""
        check_claim(self.layout, self.attempt)
        # The content that defines the run's name: with it, a file in another run's folder can be reported key by key.
        began = time.monotonic()
        snapshot = {**self.trainer.snapshot(state), "run": self.layout.run_id, "content": self.content}
        snapshot |= {} if self.history is None else {"history": history_text(self.history.rows)}
        save_resume(self.layout.resume(state.step), snapshot, keep=self.experiment.module.checkpoint.keep)
        self._saved_at = time.monotonic()
        # The launcher adds save_s to the time before the limit at which Slurm sends the warning signal.
        update_status(self.layout, self.attempt, step=state.step, save_s=round(self._saved_at - began, 3))

    def info(self, epoch: int, step: int, value: float) -> dict[str, Any]:
        """Metadata stored in best.pt, of an epoch with the monitored `value`; enough to evaluate it without the run."""
        module = self.experiment.module
        return {
            "run": self.layout.run_id,
            "sam2_model_cfg": module.sam2_model_cfg,
            "image_size": module.image_size,
            "labels": self.labels.to_json(),
            "epoch": epoch,
            "step": step,
            "monitor": module.early_stopping.monitor,
            "value": value,
        }


class StatusWriter(SilentObserver):
    """Writes epoch, step, best value and speed to status.json, at most every few seconds."""

    def __init__(self, layout: RunLayout, attempt: Attempt, module: Module):
        self._layout, self._attempt = layout, attempt
        rule = module.early_stopping
        self._fixed = {"num_epochs": module.num_epochs, "monitor": rule.monitor, "mode": rule.mode}
        self._written_at = -STATUS_EVERY_S
        self._step_s: float | None = None

    def on_step(self, event: StepDone, state: TrainState) -> None:
        # A running mean over about the last ten steps, because the first steps of a process are slow.
        self._step_s = event.seconds if self._step_s is None else 0.9 * self._step_s + 0.1 * event.seconds
        if time.monotonic() - self._written_at >= STATUS_EVERY_S:
            self._write(step=event.step, peak_memory_gb=round(event.memory_bytes / 1e9, 3) or None)

    def on_epoch(self, event: EpochDone, state: TrainState) -> None:
        best = state.stopping
        self._write(step=event.step, epoch=event.epoch, best_value=best.best, best_epoch=best.best_epoch)

    def _write(self, **changes: Any) -> None:
        update_status(self._layout, self._attempt, step_s=self._step_s, **self._fixed, **changes)
        self._written_at = time.monotonic()


class PictureWriter(SilentObserver):
    """Writes qc/<slice>/epoch-<n>.png: the same validation slices after every epoch, one folder per slice.

    Epochs in file names and titles are counted from 1, as in all output for users.
    """

    def __init__(self, layout: RunLayout, attempt: Attempt, stores: Mapping[str, Store]):
        self._layout, self._attempt, self._stores = layout, attempt, stores

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None:
        from sam2ft.pictures.figures import dice_of_labels, figure_png

        check_claim(self._layout, self._attempt)
        for sample in samples:
            dice = [value for value in dice_of_labels(sample).values() if not math.isnan(value)]
            mean = f", mean Dice {sum(dice) / len(dice):.3f}" if dice else ""
            figure = picture_of(sample, self._stores, f"{sample.key}, epoch {epoch + 1}{mean}")
            with replacing(self._layout.picture(sample.key, epoch + 1)) as partial:
                partial.write_bytes(figure_png(figure))
            # A figure has reference cycles, which the garbage collector frees late: up to 0.4 GB would accumulate.
            figure.clear()


def picture_of(sample: SlicePrediction, stores: Mapping[str, Store], title: str | None = None) -> "Figure":
    """The QC sheet of a slice with the label names, pixel spacing and orientation of its store."""
    from sam2ft.pictures.figures import dice_of_labels, qc_sheet
    from sam2ft.pictures.views import view_of

    store = stores[sample.key.dataset]
    record = store.record(sample.key.volume_key)
    drawn = dict.fromkeys((label.id for label in store.labels.drawn(record.labelled)), math.nan)
    dice, view = drawn | dice_of_labels(sample), view_of(record.geometry)
    spacing_yx_mm = record.geometry.spacing_zyx_mm[1:]
    return qc_sheet(sample, store.labels, dice, spacing_yx_mm=spacing_yx_mm, title=title, view=view)
