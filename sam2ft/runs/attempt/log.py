"""Log of an attempt: copy or redirect everything that a run prints to its own log file."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO


class Tee(io.TextIOBase):
    """Text stream that writes to two streams: the terminal (or the log of Slurm) and the log of the run."""

    def __init__(self, terminal: TextIO, log: TextIO):
        self.terminal = terminal
        self.log = log
        self.before_terminal: Callable[[], None] | None = None
        """Called before text is written to the terminal, so that a progress line can be removed."""

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
    """Also copy everything that Python prints while the block runs to `log`; yields the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", buffering=1) as stream:
        out, err = Tee(sys.stdout, stream), Tee(sys.stderr, stream)
        with redirect_stdout(out), redirect_stderr(err):
            yield stream


def redirect_output(log: Path) -> None:
    """Redirect all further output of this process and its children to `log`, including output of C libraries."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
