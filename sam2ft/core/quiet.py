"""Libraries that read images say nothing by themselves: what concerns a volume is a note or a refusal of sam2ft."""

import logging
import warnings
from collections.abc import Iterator
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


@contextmanager
def _silent(logger: str) -> Iterator[None]:
    found = logging.getLogger(logger)
    level = found.level
    found.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        found.setLevel(level)
