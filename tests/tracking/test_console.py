from collections.abc import Callable
from dataclasses import replace
from io import StringIO

import pytest

from sam2ft.core.events import EpochDone, StepDone
from sam2ft.tracking.console import ConsoleProgress, duration_text

Steps = Callable[..., StepDone]
Epochs = Callable[..., EpochDone]


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def clock(*times: float) -> Callable[[], float]:
    left = list(times)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_a_log_gets_one_plain_line_per_epoch(step: Steps, epoch: Epochs) -> None:
    stream = StringIO()
    console = ConsoleProgress("p", 10, stream=stream, clock=clock(0.0, 30.0, 60.0))
    for number in range(2):
        for _ in range(4):
            console.on_step(step(1), None)
        console.on_epoch(epoch(number, improved=number == 0), None)
    console.close()
    assert stream.getvalue().splitlines() == [
        "p  epoch  1/10  train_loss 0.5000  val_loss 0.2500  val_dice 0.8750  best  lr 0.0001  4.0 slices/s  eta 4m30s",
        "p  epoch  2/10  train_loss 0.5000  val_loss 0.2500  val_dice 0.8750        lr 0.0001  4.0 slices/s  eta 4m00s",
    ]


def test_instances_that_augmentation_moved_away_are_told(epoch: Epochs) -> None:
    stream = StringIO()
    console = ConsoleProgress("p", 10, stream=stream)
    for number, vanished in ((0, 12.0), (1, 0.0)):
        event = epoch(number)
        console.on_epoch(replace(event, values={**event.values, "train_vanished": vanished}), None)
    lines = stream.getvalue().splitlines()
    assert "12 instances left the picture" in lines[0]
    assert "left the picture" not in lines[1]


def test_a_resumed_run_estimates_from_its_own_epochs(epoch: Epochs) -> None:
    stream = StringIO()
    console = ConsoleProgress("p", 10, first_epoch=7, stream=stream, clock=clock(0.0, 30.0))
    console.on_epoch(epoch(7), None)
    assert stream.getvalue().endswith("eta 1m00s\n")


def test_a_terminal_gets_a_bar_and_the_same_lines(step: Steps, epoch: Epochs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    stream = Terminal()
    console = ConsoleProgress("[red]point 0", 10, stream=stream)
    for number in range(1, 5):
        console.on_step(step(number), None)
    console.on_epoch(epoch(0), None)
    console.close()
    shown = stream.getvalue()
    assert "[red]point 0  epoch  1/10  train_loss 0.5000" in shown
    assert "loss 0.5000" in shown
    assert "/4" in shown


def test_a_skipped_step_does_not_spoil_the_shown_loss(step: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    console = ConsoleProgress("p", 1, stream=stream)
    console.on_step(step(1), None)
    console.on_step(step(2, losses={"loss": float("nan")}, skipped=True), None)
    console.close()
    assert "nan" not in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45s"), (250.4, "4m10s"), (7500, "2h05m"), (-1, "0s"), (59.7, "1m00s")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
