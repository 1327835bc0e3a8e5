"""Limits of memory and time around the reading of one volume."""

import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.data.prepare.limits import GIB, limited

HERE = Path(__file__)


def test_what_needs_more_than_the_budget_is_refused_and_the_limit_is_lifted_again() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    too_much = pytest.raises(DataError, match=r"limit of 0\.25 GiB a volume; .*raise it with --max-volume-gb")
    with too_much, limited(HERE, 0.25 * GIB, 60):
        np.ones(GIB, dtype=np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert np.ones(GIB // 2, dtype=np.uint8).all()


def test_what_fits_into_the_budget_is_read() -> None:
    with limited(HERE, 0.25 * GIB, 60):
        assert np.ones(GIB // 4, dtype=np.uint8).all()


def test_what_takes_too_long_is_refused_and_the_timer_is_gone() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with (
        pytest.raises(DataError, match=r"test_limits\.py: was not read within 0\.2 s; .*--max-volume-minutes"),
        limited(HERE, GIB, 0.2),
    ):
        time.sleep(60)
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
