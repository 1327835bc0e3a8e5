"""Failure watch: when one process (rank) of a job fails, the others end at once and report its error."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from torch._C._distributed_c10d import Store  # torch.distributed re-exports it, but not in its type stubs

_FAILED = "failed"
_CONNECTION_LOST = (
    "lost the connection to another process, which reported no error: it was killed (for its memory, perhaps), or its "
    "node or the network failed; see the last lines of the other logs"
)
_NO_REPORT = "rank 0 ended without reporting an error; see its log"
LOOK_EVERY_S = 1.0
"""Interval at which a process checks whether another one failed, and says that it runs itself."""
SILENT_S = 300.0
"""A process that said nothing for this long is gone: killed with its node, or hanging in a call that holds the
interpreter. Without this, the others would wait for it for hours."""
GRACE_S = 3.0
"""Time for a process to end by itself, which it does when it waits for the failed one in a collective."""

FAREWELL_S = 60.0
"""How long the process that runs the store waits for the others to finish."""
_LEAVE_POLL_S = 0.02


class PeerFailedError(Exception):
    """Another process of the job failed first."""


class FailureWatch:
    """Reports a failure of this rank to the other ranks, and ends this process when another rank failed.

    In a collective, torch raises an error that does not name the failed rank. Outside of a collective, for example
    while a volume is evaluated for minutes, a rank would continue until the launcher kills it: torchrun waits 30 s,
    Slurm waits KillWait. Each process watches the one with the next rank, whose thread counts up in the store.
    """

    def __init__(self, store: Store, rank: int, world_size: int, on_failure: Callable[[str], None]):
        """`on_failure` is called with the failure message before the watch thread ends the process."""
        # A separate connection: the process group may be waiting on the other one.
        self._store, self._rank, self._world_size, self._on_failure = store.clone(), rank, world_size, on_failure
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="failure watch", daemon=True)
        self._watched, self._count, self._heard = (rank + 1) % world_size, 0, time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def tell(self, error: BaseException) -> None:
        """Report that this process ends with `error`.

        Raises:
            PeerFailedError: when another process failed first, with its message; also in place of torch's error about
                a lost connection.
        """
        self._ended.set()
        lost = _is_lost_connection(error)
        message = f"rank {self._rank} ({socket.gethostname()}) " + (
            _CONNECTION_LOST if lost else f"failed: {_one_line(error)}"
        )
        try:
            first = self._store.compare_set(_FAILED, "", message).decode()
        except RuntimeError:
            raise PeerFailedError(_NO_REPORT) from error
        if lost or first != message:
            raise PeerFailedError(first) from error

    def leave(self, *, keeps_store: bool) -> None:
        """Report that this process has finished; the process that runs the store waits until the others have too."""
        self._ended.set()
        ends = time.monotonic() + FAREWELL_S
        # Without an answer from the store there is no process to wait for.
        with suppress(RuntimeError):
            self._store.set(f"left/{self._rank}", "")
            everyone = [f"left/{rank}" for rank in range(self._world_size)]
            while keeps_store and not self._store.check(everyone) and time.monotonic() < ends:
                if self._store.check([_FAILED]):
                    return
                time.sleep(_LEAVE_POLL_S)

    def _listen(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                self._store.add(f"alive/{self._rank}", 1)
                if self._is_silent():
                    self._store.compare_set(_FAILED, "", self._of_silent())
                if not self._store.check([_FAILED]):
                    continue
                message = self._store.get(_FAILED).decode()
            except RuntimeError:
                message = _NO_REPORT
            if self._ended.wait(GRACE_S):
                return
            self._on_failure(message)
            print(f"{message}; this process ends too", file=sys.stderr, flush=True)
            sys.stdout.flush()
            # A thread has no other way to end the process: the main thread may be blocked in any call.
            os._exit(1)

    def _is_silent(self) -> bool:
        """Whether the process with the next rank has not counted up for SILENT_S and has not left."""
        count, now = self._store.add(f"alive/{self._watched}", 0), time.monotonic()
        if count != self._count:
            self._count, self._heard = count, now
        return now - self._heard > SILENT_S and not self._store.check([f"left/{self._watched}"])

    def _of_silent(self) -> str:
        return (
            f"rank {self._watched} said nothing for {SILENT_S:.0f} s: it was killed, hangs, or its node or network "
            "failed; see the last lines of its log"
        )


def _is_lost_connection(error: BaseException) -> bool:
    """Whether the message is one of gloo or nccl for a peer that has ended."""
    texts = ("Connection closed by peer", "Connection reset by peer", "remote process exited", "ncclRemoteError")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
