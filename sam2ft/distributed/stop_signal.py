"""Stop signals (SIGTERM, SIGUSR2, SIGINT, preemption): handlers that set a flag, agreement of all ranks. No torch."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

# USR2: Slurm's `--signal` warning before the time limit; TERM: preemption, scancel or kill; INT: Ctrl-C.
STOP_SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


ASK_EVERY_S = 1.0
"""Interval at which the ranks exchange stop requests."""


class StopConsensus:
    """Agreement of all ranks whether any of them was asked to stop; a collective, so all check at the same batches.

    The signal reaches the ranks at different times, and a rank that stopped alone would leave the others waiting in
    their next collective. The interval is the number of batches that the slowest rank processes in `every_s`.
    """

    def __init__(
        self,
        maxima: Callable[[Sequence[float]], list[float]],
        every_s: float = ASK_EVERY_S,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """`maxima` returns the maximum of each value over the ranks (distributed/ranks.Ranks.maxima)."""
        self._maxima, self._every_s, self._clock = maxima, every_s, clock
        self._asked_at: float | None = None
        self._every, self._left = 1, 1

    def says_stop(self, requested: bool) -> bool:
        """Whether to stop; every rank must call it before each batch, and all get the same answer."""
        self._left -= 1
        if self._left:
            return False
        now = self._clock()
        seconds = 0.0 if self._asked_at is None else now - self._asked_at
        stop, slowest = self._maxima([float(requested), seconds])
        if slowest:
            self._every = max(1, min(2 * self._every, int(self._every * self._every_s / slowest)))
        self._asked_at, self._left = now, self._every
        return stop > 0


class StopFlag:
    """Flag that a signal handler sets and the trainer reads after each step."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The first stop signal received, or None."""
        self._pid = os.getpid()

    @property
    def requested(self) -> bool:
        return self.signal is not None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Signal handler that sets the flag; a second Ctrl-C raises KeyboardInterrupt at once."""
        # Forked data loader workers inherit the handler but must not react to a signal for the job.
        if os.getpid() != self._pid:
            return
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal = signal.Signals(number)


def install_stop_handlers() -> StopFlag:
    """Install handlers for STOP_SIGNALS that set the returned flag. Call it in the main thread.

    Call it before torch is imported, which takes seconds: until then a stop signal ends the process at once.
    """
    flag = StopFlag()
    for number in STOP_SIGNALS:
        signal.signal(number, flag.handle)
    return flag


def ignore_stop_signals() -> None:
    """Ignore USR2 and TERM from now on: the work has ended, and its exit code is decided.

    The interpreter removes Python handlers before it takes down modules, which takes torch a moment: a warning of the
    time limit in this moment would kill the process, and a finished job would count as failed (exit code 140).
    """
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class StopRequest(Protocol):
    """Protocol of an object that reports whether this process was asked to stop, such as StopFlag."""

    @property
    def requested(self) -> bool: ...


@dataclass
class NeverStop:
    """A StopRequest that never requests a stop."""

    requested: bool = False
