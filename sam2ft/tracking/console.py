"""What a person sees while a run trains: a bar on a terminal, one plain line per epoch in a log."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from sam2ft.core.events import EpochDone, SlicePrediction, StepDone

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# A mean over about the last twenty steps: one step alone jumps too much to be read.
SMOOTHING = 0.05
SHOWN = ("train_loss", "val_loss", "val_dice")


class ConsoleProgress:
    """Shows epoch, step, loss, validation values, slices per second and the time that is left."""

    def __init__(
        self,
        name: str,
        num_epochs: int,
        *,
        first_epoch: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._name = name
        self._num_epochs = num_epochs
        self._first_epoch = first_epoch
        self._stream = stream or sys.stderr
        self._clock = clock
        self._start = clock()
        self._slices = 0
        self._step_seconds = 0.0
        self._loss: float | None = None
        self._scores = ""
        self._live: tuple[Progress, TaskID] | None = None

    def on_step(self, event: StepDone, state: Any) -> None:
        self._slices += event.num_slices
        self._step_seconds += event.seconds
        loss = event.losses.get("loss")
        if loss is not None and not event.skipped:
            self._loss = loss if self._loss is None else self._loss + SMOOTHING * (loss - self._loss)
        if self._stream.isatty():
            progress, task = self._live or self._begin(event.steps_in_epoch)
            words = "" if self._loss is None else f"loss {self._loss:.4f}"
            progress.update(task, advance=1, epoch=self._epoch(event.epoch), words=f"{words}  {self._scores}".strip())

    def on_epoch(self, event: EpochDone, state: Any) -> None:
        self._scores = scores_text(event.values)
        if self._live is not None:
            progress, task = self._live
            progress.reset(task, epoch=self._epoch(event.epoch), words=self._scores)
            progress.console.print(self._line(event), markup=False, highlight=False)
        else:
            print(self._line(event), file=self._stream, flush=True)
        self._slices, self._step_seconds = 0, 0.0

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None:
        """Pictures are not for the console."""

    def close(self) -> None:
        if self._live is not None:
            self._live[0].stop()
            self._live = None

    def _line(self, event: EpochDone) -> str:
        done = event.epoch + 1 - self._first_epoch
        left = (self._num_epochs - event.epoch - 1) * (self._clock() - self._start) / max(done, 1)
        speed = f"{self._slices / self._step_seconds:.1f} slices/s" if self._step_seconds > 0 else ""
        parts = [self._name, self._epoch(event.epoch), scores_text(event.values), "best" if event.improved else "    "]
        if "lr" in event.values:
            parts.append(f"lr {event.values['lr']:.2g}")
        if event.values.get("train_vanished"):
            parts.append(f"{event.values['train_vanished']:.0f} instances left the picture")
        return "  ".join(part for part in [*parts, speed, f"eta {duration_text(left)}"] if part)

    def _epoch(self, epoch: int) -> str:
        width = len(str(self._num_epochs))
        return f"epoch {epoch + 1:>{width}}/{self._num_epochs}"

    def _begin(self, steps: int) -> "tuple[Progress, TaskID]":
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        # Names are text: with markup on, a point called "[red]" would colour the line instead of naming it.
        columns = [TextColumn(f"{{task.{part}}}", markup=False) for part in ("description", "fields[epoch]")]
        words = TextColumn("{task.fields[words]}", markup=False)
        progress = Progress(
            *columns,
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            words,
            console=Console(file=self._stream),
            transient=True,
        )
        progress.start()
        self._live = (progress, progress.add_task(self._name, total=steps, epoch="", words=""))
        return self._live


def scores_text(values: Mapping[str, float]) -> str:
    """`train_loss 0.4120  val_loss 0.3981  val_dice 0.8730`."""
    return "  ".join(f"{name} {values[name]:.4f}" for name in SHOWN if name in values)


def duration_text(seconds: float) -> str:
    """`45s`, `4m10s`, `2h05m`."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
