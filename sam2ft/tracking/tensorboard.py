"""TensorBoard tracker: event files in the folder of the run."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sam2ft.core.events import EpochDone, SlicePrediction, StepDone
from sam2ft.tracking.base import Draw, ResultTable, scalars_of_epoch, scalars_of_step


class TensorBoardTracker:
    """Logs losses, learning rates and speed per step, all values per epoch, QC pictures, and the configuration as text.

    `first_step` is the number of optimizer steps already made. On resume, events that an earlier attempt wrote for
    later steps (after its last checkpoint) are hidden, so that steps do not appear twice; with --fresh all earlier
    events are hidden.
    """

    def __init__(self, folder: Path, *, config_text: str, draw: Draw, first_step: int = 0):
        from torch.utils.tensorboard import SummaryWriter

        quiet_worker()
        self._draw = draw
        self._step = first_step
        self._writer: Any = SummaryWriter(str(folder), purge_step=first_step + 1)
        if not first_step:
            # Four spaces in front make it a code block: TensorBoard renders text as Markdown.
            self._writer.add_text("config", "\n".join(f"    {line}" for line in config_text.splitlines()), 0)

    def on_step(self, event: StepDone, state: Any) -> None:
        self._step = event.step
        self._add(scalars_of_step(event))

    def on_epoch(self, event: EpochDone, state: Any) -> None:
        self._step = event.step
        self._add(scalars_of_epoch(event))
        self._writer.flush()

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None:
        for sample in samples:
            self._writer.add_image(f"qc/{sample.key}", self._draw(sample), self._step, dataformats="HWC")
        self._writer.flush()

    def on_table(self, table: ResultTable) -> None:
        self._writer.add_text(f"results/{table.name}", table_markdown(table), self._step)
        for name, value in table.summary.items():
            self._writer.add_scalar(f"{table.name}/{name}", value, self._step)

    def close(self) -> None:
        self._writer.close()

    def _add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, self._step)


def quiet_worker() -> None:
    """Print no traceback when TensorBoard's thread cannot write: the next call to the writer raises its exception."""
    before = threading.excepthook
    if getattr(before, "__name__", "") == "excepthook_of_worker":
        return

    def excepthook_of_worker(arguments: threading.ExceptHookArgs) -> None:
        of_worker = type(arguments.thread).__module__.startswith("tensorboard.")
        if not (of_worker and isinstance(arguments.exc_value, OSError)):
            before(arguments)

    threading.excepthook = excepthook_of_worker


def table_markdown(table: ResultTable) -> str:
    """The table as Markdown, which TensorBoard renders; numbers with four decimals."""

    def cell(value: str | int | float | None) -> str:
        text = "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
        return text.replace("|", "\\|")

    lines = [table.columns, ["---"] * len(table.columns), *([cell(value) for value in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
