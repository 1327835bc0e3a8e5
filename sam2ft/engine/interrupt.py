"""Being told to stop: handlers that only set a flag, and the agreement of all ranks on it. No torch."""

import os
import signal
from collections.abc import Callable
from types import FrameType

# USR2: Slurm's `--signal` warning that the time is nearly up; TERM: preemption, scancel or a plain kill; INT: Ctrl-C.
STOP_SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


def agreed(requested: bool, maximum: Callable[[int], int]) -> bool:
    """Whether any rank was told to stop; every rank gets the same answer.

    `maximum` returns the largest of the ranks' numbers (one collective): the signal reaches ranks at different times,
    and a rank that stopped alone would leave the others waiting in their next collective.
    """
    return maximum(int(requested)) > 0


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


def install() -> StopFlag:
    """Replace the handlers of STOP_SIGNALS by ones that set the returned flag. Main thread only.

    Call it before torch is imported: submitit ignores SIGTERM until other handlers are installed, and importing torch
    takes seconds.
    """
    flag = StopFlag()
    for number in STOP_SIGNALS:
        signal.signal(number, flag.handle)
    return flag
