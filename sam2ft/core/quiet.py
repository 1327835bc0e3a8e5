"""Libraries that read images say nothing by themselves: what concerns a volume is a note or a refusal of sam2ft."""

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

_LOGGERS = ("nibabel.global", "pydicom")


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Keep log lines and warnings of nibabel and pydicom away from the terminal."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in _LOGGERS:
            stack.enter_context(_silent(name))
        yield


class DecoderComplainedError(Exception):
    """A library in C wrote about damaged contents, and went on."""


@contextmanager
def refusing_complaints(harmless: Sequence[bytes] = ()) -> Iterator[None]:
    """Whatever a library in C writes to stderr is kept from the terminal and is an error.

    libjpeg and libtiff name damaged contents there and return other voxels. What other threads write meanwhile counts
    too, so this is for the readers in their own processes.

    Args:
        harmless: beginnings of lines that say nothing about the contents.

    Raises:
        DecoderComplainedError: something else was written.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        written.seek(0)
        if any(line and not line.startswith(tuple(harmless)) for line in written.read().splitlines()):
            raise DecoderComplainedError


@contextmanager
def _silent(logger: str) -> Iterator[None]:
    found = logging.getLogger(logger)
    level = found.level
    found.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        found.setLevel(level)
