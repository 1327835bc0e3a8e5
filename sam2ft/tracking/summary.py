"""Summary of a sweep in TensorBoard or Weights & Biases: tables and figures of its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2ft.core.errors import UserError
from sam2ft.core.system.path_errors import of_disk
from sam2ft.tracking.base import ResultTable
from sam2ft.tracking.tensorboard import quiet_worker, table_markdown
from sam2ft.tracking.wandb import WandbRun, start_run


@dataclass(frozen=True)
class SweepSummary:
    """Tables and figures of a report for trackers."""

    tables: Sequence[ResultTable]
    figures: Mapping[str, Path]
    """Name -> PNG file."""


class TrackerError(UserError):
    """A tracker could not store the summary; the report itself has been written."""


def to_tensorboard(folder: Path, summary: SweepSummary) -> None:
    """Write the summary as TensorBoard event files to `folder`; they replace those of an earlier summary.

    Imports torch for its event writer.

    Raises:
        TrackerError: The summary could not be written.
    """
    try:
        import numpy as np
        from PIL import Image
        from torch.utils.tensorboard import SummaryWriter

        quiet_worker()
        for earlier in folder.glob("events.out.tfevents.*"):
            earlier.unlink()
        writer: Any = SummaryWriter(str(folder))
        for table in summary.tables:
            writer.add_text(table.name, table_markdown(table), 0)
            for name, value in table.summary.items():
                writer.add_scalar(f"{table.name}/{name}", value, 0)
        for name, path in summary.figures.items():
            with Image.open(path) as picture:
                writer.add_image(name, np.asarray(picture.convert("RGB")), 0, dataformats="HWC")
        writer.close()
    except Exception as error:
        if of_disk(error):
            raise
        raise _tracker_error("TensorBoard", error) from error


def to_wandb(target: WandbRun, summary: SweepSummary) -> None:
    """Log the summary to the W&B run with the id of `target`; a later summary continues this run.

    Raises:
        TrackerError: The summary could not be logged.
    """
    try:
        import wandb

        run = start_run(target, job_type="summary")
        for table in summary.tables:
            data = [list(row) for row in table.rows]
            run.log({table.name: wandb.Table(columns=list(table.columns), data=data)})
            for name, value in table.summary.items():
                run.summary[f"{table.name}/{name}"] = value
        run.log({name: wandb.Image(str(path)) for name, path in summary.figures.items()})
        run.finish()
    except Exception as error:
        raise _tracker_error("Weights & Biases", error) from error


def _tracker_error(name: str, error: Exception) -> TrackerError:
    return TrackerError(
        f"{name} could not store the summary ({type(error).__name__}: {error}); the report itself was written"
    )
