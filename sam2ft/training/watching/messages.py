"""Summary texts printed when a training starts, resumes and ends: data, settings, device, output paths, best epoch."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sam2ft.config.schema.experiment import Experiment
from sam2ft.data.store.store import VolumeRecord
from sam2ft.model.memory_needs import memory_text, memory_warning, needed
from sam2ft.runs.layout import RunLayout
from sam2ft.training.memory import gpu_memory_bytes
from sam2ft.training.state import TrainState
from sam2ft.training.trainer import Trainer


def start_text(experiment: Experiment, layout: RunLayout, records: Sequence[VolumeRecord], trainer: Trainer) -> str:
    """The lines printed before the first step."""
    module, rule, ranks = experiment.module, experiment.module.early_stopping, trainer.ranks
    size = experiment.datamodule.batch_size * trainer.settings.batches_per_step * ranks.world_size
    train = [record for record in records if record.split == "train"]
    val = [record for record in records if record.split == "val"]
    stopping = f" at most; stops after {rule.patience} without a better {rule.monitor}" if rule.enabled else ""
    return settings_table(
        ("run", layout.run_id),
        ("folder", shown_path(layout.folder)),
        ("training", _counts_text(train)),
        ("validation", _counts_text(val)),
        ("epochs", f"{module.num_epochs}{stopping}"),
        ("steps", f"{trainer.settings.steps_per_epoch} per epoch, of {_plural(size, 'slice')}"),
        ("on", f"{ranks.device}, {trainer.settings.precision}, {_plural(ranks.world_size, 'process', 'es')}"),
        *_memory_rows(experiment, gpu_memory_bytes(ranks.device)),
        ("log", shown_path(layout.logs)),
        ("curves", f"tensorboard --logdir {shown_path(layout.folder.parent)}"),
        *([("pictures", f"{shown_path(layout.qc)}, after every epoch")] if module.visualize else []),
    )


def _memory_rows(experiment: Experiment, gpu_bytes: int | None) -> list[tuple[str, str]]:
    """A row with the memory of a step, and one with a warning where it may not fit; none on a CPU."""
    need = needed(experiment)
    if gpu_bytes is None or need is None:
        return []
    warning = memory_warning(experiment, gpu_bytes)
    rows = [("memory", memory_text([need], gpu_bytes).removeprefix("memory: "))]
    return rows if warning is None else [*rows, ("warning", warning)]


def resume_text(state: TrainState, file: Path) -> str:
    """The line printed when an interrupted training resumes."""
    return settings_table(
        ("continues", f"after step {state.step}, in epoch {state.epoch + 1}, from {shown_path(file)}")
    )


def end_text(experiment: Experiment, layout: RunLayout, state: TrainState) -> str:
    """The lines printed after the last epoch of a completed training."""
    module, stopping = experiment.module, state.stopping
    early = f" of {module.num_epochs}, stopped early" if state.epoch < module.num_epochs else ""
    skipped = f", {state.skipped_steps} of them skipped" if state.skipped_steps else ""
    rows = [("trained", f"{_plural(state.epoch, 'epoch')}{early}; {_plural(state.step, 'step')}{skipped}")]
    if stopping.best_epoch is not None and stopping.best is not None:
        rows.append(("best", f"epoch {stopping.best_epoch + 1}: {module.early_stopping.monitor} {stopping.best:.4f}"))
        rows.append(("weights", f"{shown_path(layout.best)} (loads in stock SAM 2)"))
    return settings_table(*rows, ("history", shown_path(layout.history)))


def settings_table(*rows: tuple[str, str]) -> str:
    """Lines of `name  text` with the texts aligned in one column."""
    return "\n".join(f"{name:<11} {text}" for name, text in rows)


def shown_path(path: Path) -> str:
    """A path relative to the working directory when it lies below it, otherwise absolute."""
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def _counts_text(records: Iterable[VolumeRecord]) -> str:
    """Text such as `52 slices with labels of 3 subjects`."""
    listed = list(records)
    subjects = {(record.key.dataset, record.key.subject) for record in listed}
    slices = sum(len(record.labelled_slices) for record in listed)
    return f"{_plural(slices, 'slice')} with labels of {_plural(len(subjects), 'subject')}"


def _plural(number: int, word: str, ending: str = "s") -> str:
    return f"{number:,} {word}{'' if number == 1 else ending}"
