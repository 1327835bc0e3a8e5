"""What a training tells a person before it begins and after it ended: what, on what, where it goes, what comes next."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sam2ft.config.schema.experiment import Experiment
from sam2ft.data.store.store import VolumeRecord
from sam2ft.runs.layout import RunLayout
from sam2ft.training.state import TrainState
from sam2ft.training.trainer import Trainer


def beginning(experiment: Experiment, layout: RunLayout, records: Sequence[VolumeRecord], trainer: Trainer) -> str:
    """The lines above the first step."""
    module, rule = experiment.module, experiment.module.early_stopping
    size = experiment.datamodule.batch_size * trainer.settings.grad_accum * trainer.ranks.world_size
    train = [record for record in records if record.split == "train"]
    val = [record for record in records if record.split == "val"]
    stopping = f" at most; stops after {rule.patience} without a better {rule.monitor}" if rule.enabled else ""
    return settings_table(
        ("run", layout.run_id),
        ("folder", shown_path(layout.folder)),
        ("training", _counted(train)),
        ("validation", _counted(val)),
        ("epochs", f"{module.num_epochs}{stopping}"),
        ("steps", f"{trainer.settings.steps_per_epoch} per epoch, of {_plural(size, 'slice')}"),
        ("on", _where(trainer)),
        ("log", shown_path(layout.logs)),
        ("curves", f"tensorboard --logdir {shown_path(layout.folder.parent)}"),
        *([("pictures", f"{shown_path(layout.qc)}, after every epoch")] if module.visualize else []),
    )


def continuing(state: TrainState, file: Path) -> str:
    """Where a training that was cut short goes on."""
    return settings_table(
        ("continues", f"after step {state.step}, in epoch {state.epoch + 1}, from {shown_path(file)}")
    )


def ending(experiment: Experiment, layout: RunLayout, state: TrainState) -> str:
    """The lines below the last epoch of a training that ended well."""
    module, stopping = experiment.module, state.stopping
    early = f" of {module.num_epochs}, stopped early" if state.epoch < module.num_epochs else ""
    skipped = f", {state.skipped_steps} of them skipped" if state.skipped_steps else ""
    rows = [("trained", f"{_plural(state.epoch, 'epoch')}{early}; {_plural(state.step, 'step')}{skipped}")]
    if stopping.best_epoch is not None and stopping.best is not None:
        rows.append(("best", f"epoch {stopping.best_epoch + 1}: {module.early_stopping.monitor} {stopping.best:.4f}"))
        rows.append(("weights", f"{shown_path(layout.best)} (loads in stock SAM 2)"))
    return settings_table(*rows, ("history", shown_path(layout.history)))


def settings_table(*rows: tuple[str, str]) -> str:
    """`name  text` lines, texts in one column."""
    return "\n".join(f"{name:<11} {text}" for name, text in rows)


def shown_path(path: Path) -> str:
    """A path as a person would type it: relative to the working directory where it lies below it."""
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def _where(trainer: Trainer) -> str:
    ranks = trainer.ranks
    return f"{ranks.device}, {trainer.settings.precision}, {_plural(ranks.world_size, 'process', 'es')}"


def _counted(records: Iterable[VolumeRecord]) -> str:
    """`52 slices with labels of 3 subjects`."""
    listed = list(records)
    subjects = {(record.key.dataset, record.key.subject) for record in listed}
    slices = sum(len(record.labelled_slices) for record in listed)
    return f"{_plural(slices, 'slice')} with labels of {_plural(len(subjects), 'subject')}"


def _plural(number: int, word: str, ending: str = "s") -> str:
    return f"{number:,} {word}{'' if number == 1 else ending}"
