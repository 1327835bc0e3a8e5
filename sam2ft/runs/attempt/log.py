"""What a run prints is kept in its own log, also when nobody watches."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class Tee(io.TextIOBase):
    """A text stream that writes to two: the terminal (or Slurm's log) and the run's log."""

    def __init__(self, terminal: TextIO, log: TextIO):
        self.terminal = terminal
        self.log = log
        self.before_terminal: Callable[[], None] | None = None
        """Called before text goes to the terminal: whoever draws a live line there takes it away."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a plain attribute, the base class a property
        return self.terminal.encoding

    def write(self, text: str) -> int:
        self.log.write(text)
        if self.before_terminal is not None:
            self.before_terminal()
        return self.terminal.write(text)

    def flush(self) -> None:
        self.terminal.flush()
        self.log.flush()

    def isatty(self) -> bool:
        return self.terminal.isatty()

    def fileno(self) -> int:
        return self.terminal.fileno()


@contextmanager
def kept_output(log: Path) -> Iterator[TextIO]:
    """Copy everything that Python prints while the block runs to `log` as well; yields the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", buffering=1) as stream:
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Tee(before[0], stream), Tee(before[1], stream)
        try:
            yield stream
        finally:
            sys.stdout, sys.stderr = before


def redirect_output(log: Path) -> None:
    """From now on all output of this process and its children goes to `log` only, that of libraries in C included."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
