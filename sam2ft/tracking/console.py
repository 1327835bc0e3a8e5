"""Console progress bar of a training: one live line on a terminal, one plain line per epoch in a log."""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from sam2ft.core.events import EpochDone, SlicePrediction, StepDone

# Running mean over about the last twenty steps, because values of single steps vary too much.
SMOOTHING = 0.05
SHOWN = ("train_loss", "val_loss", "val_dice")
REDRAW_S = 0.1
LEAST_BAR, LONGEST_BAR = 8, 30


@dataclass(frozen=True)
class LinePart:
    """A part of the line; if the line is too long, parts with the highest rank are omitted first, rank 0 never."""

    text: str
    rank: int = 0


class ConsoleProgress:
    """Shows epoch, step, loss, speed, learning rate, memory, skipped steps and the remaining time (eta).

    On a terminal one line is redrawn at most ten times per second, without an extra thread. Other code that prints to
    the same terminal must call `clear` first (runs/attempt/log.Tee does).
    """

    def __init__(self, num_epochs: int, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self._num_epochs = num_epochs
        self._stream = stream or sys.stderr
        self._clock = clock
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._bar = Progress(
            TextColumn("{task.description} ", markup=False),
            BarColumn(None, table_column=Column(max_width=LONGEST_BAR)),
            TextColumn(" {task.fields[rest]}", markup=False),
            console=Console(file=self._stream, force_terminal=self._live, color_system=None),
            disable=not self._live,
            transient=True,
            # No thread, and no wrapper around the streams, which the run's log has wrapped already.
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=None, rest="")
        self._drawn_at = -math.inf
        self._pace = Pace(num_epochs)
        self._loss: float | None = None
        self._skipped = self._vanished = 0
        self._last: StepDone | None = None

    def on_step(self, event: StepDone, state: Any) -> None:
        now = self._clock()
        self._pace.after_step(event, now)
        self._last = event
        self._skipped += event.skipped
        self._vanished += event.num_vanished
        loss = event.losses.get("loss")
        if loss is not None and not event.skipped:
            self._loss = loss if self._loss is None else self._loss + SMOOTHING * (loss - self._loss)
        if self._live and (now - self._drawn_at >= REDRAW_S or self._pace.is_last_of_epoch):
            self._drawn_at = now
            self._draw(event)

    def on_epoch(self, event: EpochDone, state: Any) -> None:
        speed = self._pace.slices_per_s
        self._pace.after_epoch(event, self._clock())
        self.clear()
        pieces = self._epoch_pieces(event, speed)
        line = fitted(pieces, self._bar.console.width - 1) if self._live else fitted(pieces)
        print(line, file=self._stream, flush=True)
        self._skipped = self._vanished = 0

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None:
        """Do nothing: pictures are not shown on the console."""

    def clear(self) -> None:
        """Erase the live line from the terminal; the next step draws it again."""
        self._bar.stop()

    def close(self) -> None:
        self.clear()

    def _draw(self, event: StepDone) -> None:
        done, steps = self._pace.step_in_epoch, event.steps_in_epoch
        phase = "validating" if self._pace.is_last_of_epoch else f"{self._pace.slices_per_s:.1f} slices/s"
        head = f"epoch {self._epoch(event.epoch)}"
        tail = [
            LinePart(f"{done:>{len(str(steps))}}/{steps}" if steps else f"step {event.step}"),
            LinePart("" if self._loss is None else f"loss {self._loss:.4f}"),
            LinePart(f"{phase:>14}", 2),
            *self._details(event.learning_rates, event.memory_bytes),
            LinePart(f"eta {self._pace.left_text():<7}"),
        ]
        room = self._bar.console.width - len(head) - 5  # four spaces, and a bar of one character at least
        rest = fitted(tail, room - LEAST_BAR)[:room]
        self._bar.update(self._task, completed=done, total=steps or None, description=head, rest=rest)
        self._bar.start()
        self._bar.refresh()
        # Hidden by rich, it would stay so after a kill.
        self._bar.console.show_cursor()

    def _epoch_pieces(self, event: EpochDone, slices_per_s: float) -> list[LinePart]:
        scores = [LinePart(f"{name} {event.values[name]:.4f}") for name in SHOWN if name in event.values]
        rates = (event.values["lr"],) if "lr" in event.values else ()
        memory = self._last.memory_bytes if self._last else 0
        return [
            LinePart(f"epoch {self._epoch(event.epoch)}"),
            *scores,
            LinePart("best" if event.improved else " " * len("best")),
            LinePart(f"{slices_per_s:.1f} slices/s" if slices_per_s else "", 3),
            *self._details(rates, memory),
            LinePart(f"eta {self._pace.left_text()}", 1),
        ]

    def _details(self, rates: Sequence[float], memory_bytes: int) -> list[LinePart]:
        """Largest learning rate of the groups, memory, and numbers of skipped steps and vanished instances, if any."""
        return [
            LinePart(f"lr {rate_text(max(rates))}" if rates else "", 4),
            LinePart(f"{memory_bytes / 1e9:.1f} GB" if memory_bytes else "", 5),
            LinePart(f"{self._skipped} skipped" if self._skipped else "", 1),
            LinePart(f"{self._vanished} vanished" if self._vanished else "", 6),
        ]

    def _epoch(self, epoch: int) -> str:
        return f"{epoch + 1:>{len(str(self._num_epochs))}}/{self._num_epochs}"


class Pace:
    """Training speed, and remaining time for all epochs (early stopping may end the training earlier)."""

    def __init__(self, num_epochs: int):
        self._num_epochs = num_epochs
        self._steps_left = 0
        self._epochs_left = num_epochs
        self._num_seen = 0
        self._step_s = 0.0
        self._between_s: float | None = None
        """Mean seconds per epoch outside the steps: validation, pictures, checkpoints."""
        self._num_epochs_seen = 0
        self._epoch_began: float | None = None
        self._epoch_step_s = 0.0
        self._slices, self._seconds = 0, 0.0
        self.step_in_epoch = 0
        self.is_last_of_epoch = False

    @property
    def slices_per_s(self) -> float:
        """Slices per second in the current epoch so far, including waiting for data."""
        return self._slices / self._seconds if self._seconds > 0 else 0.0

    def after_step(self, event: StepDone, now: float) -> None:
        if self._epoch_began is None:
            self._epoch_began = now - event.seconds
        self._num_seen += 1
        # A plain mean at first, so that the slow first step of a process loses its weight quickly.
        share = max(SMOOTHING, 1 / self._num_seen)
        self._step_s += share * (event.seconds - self._step_s)
        self._epoch_step_s += event.seconds
        self._slices += event.num_slices
        self._seconds += event.seconds
        self.step_in_epoch = event.step - event.epoch * event.steps_in_epoch
        self.is_last_of_epoch = self.step_in_epoch == event.steps_in_epoch
        self._steps_left = self._num_epochs * event.steps_in_epoch - event.step
        self._epochs_left = self._num_epochs - event.epoch

    def after_epoch(self, event: EpochDone, now: float) -> None:
        if self._epoch_began is not None:
            between = max(0.0, now - self._epoch_began - self._epoch_step_s)
            self._num_epochs_seen += 1
            self._between_s = (self._between_s or 0.0) + (between - (self._between_s or 0.0)) / self._num_epochs_seen
        self._epochs_left = self._num_epochs - event.epoch - 1
        self._epoch_began, self._epoch_step_s = now, 0.0
        self._slices, self._seconds = 0, 0.0

    def left_text(self) -> str:
        """Remaining time as `2h05m`; `2h05m+` in the first epoch of a process, when the validation time is unknown."""
        if not self._num_seen or self._steps_left < 0:
            return "?"
        seconds = self._steps_left * self._step_s + self._epochs_left * (self._between_s or 0.0)
        return duration_text(seconds) + ("+" if self._between_s is None else "")


def fitted(pieces: Sequence[LinePart], width: int | None = None) -> str:
    """The parts as one line; parts with the highest ranks are omitted until it fits `width`, but never rank 0."""
    kept = [piece for piece in pieces if piece.text]
    while True:
        line = "  ".join(piece.text for piece in kept)
        highest = max((piece.rank for piece in kept), default=0)
        if width is None or len(line) <= width or not highest:
            return line
        kept = [piece for piece in kept if piece.rank != highest]


def rate_text(rate: float) -> str:
    """Learning rate as text: `5.0e-4`."""
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def duration_text(seconds: float) -> str:
    """Duration as text: `45s`, `4m10s`, `2h05m`, `3d04h`."""
    whole = max(0, round(seconds))
    days, hours, minutes, rest = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
