import re
import time
from collections.abc import Callable
from io import StringIO
from itertools import groupby

import pytest

from sam2ft.core.events import EpochDone, StepDone
from sam2ft.tracking.console import ConsoleProgress, LinePart, duration_text, fitted, rate_text

Steps = Callable[..., StepDone]
Epochs = Callable[..., EpochDone]
ERASE = "\x1b[2K"
# Of the live line, whose end is a line feed and a step back.
CONTROLS = re.compile(r"(?:\n?(?:\r|\x1b\[[0-9?]*[A-Za-z])+)")


class Terminal(StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def drawn(self) -> list[str]:
        """Every state of the live line, and every line that stays."""
        parts = CONTROLS.split(self.getvalue())
        return [part for part, _ in groupby(part for part in parts if part)]


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _a_terminal_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


def run_epoch(console: ConsoleProgress, clock: Clock, step: Steps, done: EpochDone, *, first: int = 1) -> None:
    """Four steps of 2 s (8 slices each) and 12 s of validation: 20 s."""
    for number in range(first, 5):
        clock.now += 2.0
        console.on_step(step(4 * done.epoch + number, epoch=done.epoch), None)
    clock.now += 12.0
    console.on_epoch(done, None)


def test_a_log_gets_one_plain_line_per_epoch_with_the_time_that_all_epochs_will_take(
    step: Steps, epoch: Epochs
) -> None:
    stream, clock = StringIO(), Clock()
    console = ConsoleProgress(10, stream=stream, clock=clock)
    for number in range(2):
        run_epoch(console, clock, step, epoch(number, improved=number == 0))
    console.close()
    assert stream.getvalue().splitlines() == [
        "epoch  1/10  train_loss 0.5000  val_loss 0.2500  val_dice 0.8750  best  4.0 slices/s  lr 1.0e-4  eta 3m00s",
        "epoch  2/10  train_loss 0.5000  val_loss 0.2500  val_dice 0.8750        4.0 slices/s  lr 1.0e-4  eta 2m40s",
    ]


def test_the_estimate_of_the_first_epoch_says_that_validation_is_not_in_it(step: Steps, epoch: Epochs) -> None:
    stream, clock = Terminal(), Clock()
    console = ConsoleProgress(10, stream=stream, clock=clock)
    clock.now = 2.0
    console.on_step(step(1), None)
    assert "eta 1m18s+" in stream.drawn()[-1]  # 39 steps of 2 s
    clock.now = 20.0
    console.on_epoch(epoch(0), None)
    clock.now += 2.0
    console.on_step(step(5, epoch=1), None)
    # 35 steps of 2 s; of the 20 s, 2 s were steps, so 18 s are spent outside of them in each of 9 epochs.
    assert "eta 3m52s " in stream.drawn()[-1] + " "


def test_a_resumed_run_counts_only_what_is_left(step: Steps, epoch: Epochs) -> None:
    stream, clock = StringIO(), Clock()
    console = ConsoleProgress(10, stream=stream, clock=clock)
    run_epoch(console, clock, step, epoch(7), first=3)
    assert stream.getvalue().endswith("eta 40s\n")


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_a_terminal_gets_one_live_line_that_never_wraps(
    step: Steps, epoch: Epochs, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream, clock = Terminal(), Clock()
    console = ConsoleProgress(100, stream=stream, clock=clock)
    run_epoch(console, clock, lambda *a, **k: step(*a, **k, memory_bytes=2_300_000_000), epoch(0))
    console.close()
    *live, last = stream.drawn()
    assert len(live) == 4
    assert all(len(line) <= columns for line in live)
    assert "\n" not in "".join(live)
    assert last.endswith("\n")
    shown = live[1]
    assert "epoch   1/100" in shown
    assert "2/4  loss 0.5" in shown
    if columns >= 80:
        assert all(part in shown for part in ("2/4", "━", "loss 0.5000", "4.0 slices/s", "eta 13m16s+"))
        assert "validating" in live[-1]
        assert "val_dice 0.8750  best" in last
    if columns >= 120:
        assert all(part in shown for part in ("lr 1.0e-4", "2.3 GB"))
        assert all(part in last for part in ("4.0 slices/s", "lr 1.0e-4", "2.3 GB", "eta 33m00s"))


def test_what_went_wrong_is_counted_and_a_skipped_step_does_not_spoil_the_shown_loss(step: Steps) -> None:
    stream, clock = Terminal(), Clock()
    console = ConsoleProgress(1, stream=stream, clock=clock)
    console.on_step(step(1), None)
    assert "skipped" not in stream.drawn()[-1]
    clock.now = 1.0
    console.on_step(step(2, losses={"loss": float("nan")}, skipped=True, num_vanished=3), None)
    assert "loss 0.5000" in stream.drawn()[-1]
    assert "1 skipped  3 vanished" in stream.drawn()[-1]


def test_the_line_is_drawn_at_most_ten_times_a_second_and_can_be_taken_away(step: Steps) -> None:
    stream, clock = Terminal(), Clock()
    console = ConsoleProgress(1, stream=stream, clock=clock)
    for number in range(1, 101):
        clock.now += 0.01
        console.on_step(step(number, steps_in_epoch=1000), None)
    assert len(stream.drawn()) == 10
    console.clear()
    assert stream.getvalue().endswith(ERASE)
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l"), "the cursor is back"
    cleared = stream.getvalue()
    console.close()
    assert stream.getvalue() == cleared


def test_a_kill_leaves_the_terminal_its_cursor(step: Steps) -> None:
    stream = Terminal()
    ConsoleProgress(1, stream=stream).on_step(step(1), None)
    assert stream.getvalue().endswith("\x1b[?25h")


def test_a_log_is_plain_whatever_the_environment_says_about_colours(
    step: Steps, epoch: Epochs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORCE_COLOR makes rich take anything for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = StringIO()
    console = ConsoleProgress(1, stream=stream)
    console.on_step(step(1), None)
    console.on_epoch(epoch(0), None)
    console.close()
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_dumb_terminal_and_an_ascii_one_get_what_they_can_show(step: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    ConsoleProgress(1, stream=stream).on_step(step(1), None)
    assert stream.getvalue() == ""
    monkeypatch.setenv("TERM", "xterm")
    stream.encoding = "ascii"
    ConsoleProgress(1, stream=stream).on_step(step(1), None)
    assert "--" in stream.getvalue()
    assert stream.getvalue().isascii()


def test_an_unknown_number_of_steps_is_no_division_by_zero(step: Steps) -> None:
    stream = Terminal()
    ConsoleProgress(3, stream=stream).on_step(step(7, steps_in_epoch=0), None)
    assert "step 7" in stream.getvalue()
    assert "eta ?" in stream.getvalue()


def test_watching_costs_a_step_next_to_nothing(step: Steps) -> None:
    stream, event = Terminal(), step(1, steps_in_epoch=10_000)
    console = ConsoleProgress(1, stream=stream)
    began = time.process_time()
    for _ in range(2000):
        console.on_step(event, None)
    assert (time.process_time() - began) / 2000 < 0.5e-3


def test_words_of_a_high_rank_are_left_out_first() -> None:
    pieces = [LinePart("abc"), LinePart("de", 2), LinePart("f", 1), LinePart("")]
    assert fitted(pieces) == "abc  de  f"
    assert fitted(pieces, 9) == "abc  f"
    assert fitted(pieces, 2) == "abc"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45s"), (250.4, "4m10s"), (7500, "2h05m"), (-1, "0s"), (59.7, "1m00s"), (273600, "3d04h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("rate", "text"), [(1e-4, "1.0e-4"), (4.83e-4, "4.8e-4"), (0.1, "1.0e-1"), (0.0, "0.0e0")])
def test_rates_are_short(rate: float, text: str) -> None:
    assert rate_text(rate) == text
