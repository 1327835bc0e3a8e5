"""Log of an attempt: copy or redirect everything that a run prints to its own log file."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO, cast

from sam2ft.core.system.streams import LogStream, silence


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
        with self._losable():
            self.terminal.write(text)
        return len(text)

    def flush(self) -> None:
        self.log.flush()
        with self._losable():
            self.terminal.flush()

    @contextmanager
    def _losable(self) -> Iterator[None]:
        """Go on where the terminal cannot be written (a full disk, a closed pipe): the log has the same text."""
        try:
            yield
        except OSError:
            silence(self.terminal)

    def isatty(self) -> bool:
        return self.terminal.isatty()

    def fileno(self) -> int:
        return self.terminal.fileno()


@contextmanager
def kept_output(log: Path) -> Iterator[TextIO]:
    """Also copy everything that Python prints while the block runs to `log`; yields the log.

    A log that cannot be written any more is reported once on the terminal, and the run goes on.
    """
    descriptor, terminal = _opened(log), sys.stderr

    def report(error: OSError) -> None:
        with suppress(OSError):
            print(f"{log}: the log is not complete ({error.strerror}); the run goes on", file=terminal)

    stream = cast(TextIO, LogStream(descriptor, report))
    try:
        with redirect_stdout(Tee(sys.stdout, stream)), redirect_stderr(Tee(sys.stderr, stream)):
            yield stream
    finally:
        os.close(descriptor)


def redirect_output(log: Path) -> None:
    """Redirect all further output of this process and its children to `log`, including output of C libraries.

    What the log has no room for is dropped.
    """
    descriptor = _opened(log)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout, sys.stderr = LogStream(1), LogStream(2)


def _opened(log: Path) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
