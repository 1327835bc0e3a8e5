"""Being told to stop: handlers that only set a flag, and the agreement of all ranks on it. No torch."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

# USR2: Slurm's `--signal` warning that the time is nearly up; TERM: preemption, scancel or a plain kill; INT: Ctrl-C.
STOP_SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


ASK_EVERY_S = 1.0


class StopConsensus:
    """Ranks that ask each other whether any of them was told to stop: a collective, so all at the same batches.

    The signal reaches ranks at different times, and a rank that stopped alone would leave the others waiting in their
    next collective. They ask every few batches: as many as the slowest rank does in `every_s`.
    """

    def __init__(
        self,
        maxima: Callable[[Sequence[float]], list[float]],
        every_s: float = ASK_EVERY_S,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """maxima: the largest of the ranks' numbers, one by one (distributed/ranks.Ranks.maxima)."""
        self._maxima, self._every_s, self._clock = maxima, every_s, clock
        self._asked_at: float | None = None
        self._every, self._left = 1, 1

    def says_stop(self, requested: bool) -> bool:
        """Called by every rank before each batch; every rank gets the same answer."""
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
    """Set by a signal, read by the trainer after each step."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The first signal that asked for a stop, or None."""
        self._pid = os.getpid()

    @property
    def requested(self) -> bool:
        return self.signal is not None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. A second Ctrl-C does not wait for the end of the step."""
        # Forked loader workers inherit the handler; they must not react to a signal meant for the job.
        if os.getpid() != self._pid:
            return
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal = signal.Signals(number)


def install_stop_handlers() -> StopFlag:
    """Replace the handlers of STOP_SIGNALS by ones that set the returned flag. Main thread only.

    Call it before torch is imported: submitit ignores SIGTERM until other handlers are installed, and importing torch
    takes seconds.
    """
    flag = StopFlag()
    for number in STOP_SIGNALS:
        signal.signal(number, flag.handle)
    return flag


class StopRequest(Protocol):
    """Anything that says whether this process was told to stop (distributed/stop_signal.StopFlag)."""

    @property
    def requested(self) -> bool: ...


@dataclass
class NeverStop:
    """Nobody asks for a stop."""

    requested: bool = False
