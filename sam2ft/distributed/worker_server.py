"""Server that forks the workers of a data loader, for processes whose own forks may deadlock. No torch."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

from sam2ft.distributed.stop_signal import STOP_SIGNALS

_LOOK_EVERY_S = 1.0
"""Interval at which a worker looks whether the process that it works for is still there."""


def worker_server(*modules: str) -> BaseContext:
    """Start method of workers that are forked by a server, which imports those of `modules` that this process has.

    Four workers had their first batch after 1.5 to 4 s where they were forked, after 5 to 11 s by this server (once;
    those of the next loader after 1.5 to 4 s), and after 11 to 35 s by one without imports or by `spawn` (two busy
    cores).
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([name for name in modules if name in sys.modules])
    return context


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Processes that start inside the block, and theirs, do not get stop signals; here they arrive after the block.

    Slurm and Ctrl-C signal all processes of a job. A forked worker inherits StopFlag.handle, which ignores them; one
    that a server of multiprocessing starts would die, and with it the training that wants to stop in order.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        # It starts first, because its start allows two of the signals again (CPython issue 77694).
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_owner() -> None:
    """In a worker of a server: end with the process that it works for, or when that process asks by SIGTERM.

    torch's workers look at their parent alone, which is the server, and that ends after its last worker. SIGTERM is
    blocked (`kept_from_children`), so that it does not end a worker by itself.
    """
    if (owner := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(owner,), name="owner", daemon=True).start()


def _end_with(owner: BaseProcess) -> None:
    asked = False
    while owner.is_alive() and not asked:
        got = signal.sigtimedwait(STOP_SIGNALS, _LOOK_EVERY_S)
        # From anybody else it is for the job: the owner stops in order, and needs its workers until then.
        asked = got is not None and got.si_signo == signal.SIGTERM and got.si_pid == owner.pid
    os._exit(1)
