"""Output streams of a process that survive a full disk and a closed pipe."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TextIO

STANDARD_OUTPUT = "standard output"


class _Wrapped(io.TextIOBase):
    """A text stream that passes everything on to another one."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a plain attribute, the base class a property
        return self.stream.encoding

    @property
    def buffer(self) -> object:
        """The stream of bytes below, which some libraries write to."""
        return self.stream.buffer

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    def writable(self) -> bool:
        return True


class StandardError(_Wrapped):
    """Standard error: what cannot be written is dropped, because the exit code says how the command ended."""

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError:
            silence(self.stream)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError:
            silence(self.stream)


class StandardOutput(_Wrapped):
    """Standard output: an error of writing names it, because what a command prints there is its result."""

    def write(self, text: str) -> int:
        with naming_output():
            return self.stream.write(text)

    def flush(self) -> None:
        with naming_output():
            self.stream.flush()


@contextmanager
def naming_output() -> Iterator[None]:
    """Put the words `standard output` into an OSError that names no file; that of a closed pipe stays one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from None


def silence(stream: TextIO) -> None:
    """Let a stream that cannot be written end in the null device, also what it still holds, which would fail again when
    the interpreter ends."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


@contextmanager
def guarded_output() -> Iterator[None]:
    """Use `StandardOutput` and `StandardError` as standard output and standard error while the block runs."""
    with redirect_stdout(StandardOutput(sys.stdout)), redirect_stderr(StandardError(sys.stderr)):
        yield


class LogStream(io.TextIOBase):
    """Text that is written at once to a file descriptor; what the file system refuses is missing from the log.

    A log is no result: a run must not end because its log cannot be written. `on_failure` is called at the first
    failure; later text is tried again, because the file system may have room again.
    """

    encoding = "utf-8"

    def __init__(self, descriptor: int, on_failure: Callable[[OSError], None] = lambda error: None):
        self._descriptor = descriptor
        self._on_failure = on_failure
        self._failed = False

    def write(self, text: str) -> int:
        left = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._on_failure(error)
        return len(text)

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True
