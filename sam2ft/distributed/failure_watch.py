"""Failure watch: when one process (rank) of a job fails, the others end at once and report its error."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, Self

from torch._C._distributed_c10d import Store  # torch.distributed re-exports it, but not in its type stubs

_FAILED = "failed"
_CONNECTION_LOST = (
    "lost the connection to another process, which reported no error: it was killed (for its memory, perhaps), or its "
    "node or the network failed; see the last lines of the other logs"
)
_NO_REPORT = "rank 0 ended without reporting an error; see its log"
_NO_ANSWER = (
    "rank 0 said nothing for {seconds:.0f} s: it hangs, or its node or the network failed; see the last lines of its "
    "log"
)
LOOK_EVERY_S = 1.0
"""Interval at which a process checks whether another one failed, and says that it runs itself."""
SILENT_S = 300.0
"""A process that said nothing for this long is gone: killed with its node, or hanging in a call that holds the
interpreter. Without this, the others would wait for it for hours."""
GRACE_S = 3.0
"""Time for a process to end by itself, which it does when it waits for the failed one in a collective."""

HEAR_S = 2.0
"""The process that runs the store ends at most this much later than its failure, because the message ends with it: the
others look for it every LOOK_EVERY_S."""
FAREWELL_S = 60.0
"""The process that runs the store waits for the others to finish, until all that are left said nothing for this
long."""
_LEAVE_POLL_S = 0.02


class PeerFailedError(Exception):
    """Another process of the job failed first."""


class _Silence:
    """Seconds for which a count has stood still while this process ran: Slurm may suspend all processes of a job."""

    def __init__(self) -> None:
        self._count, self._seconds, self._looked = -1, 0.0, time.monotonic()

    def seconds_at(self, count: int) -> float:
        """Seconds since the count changed, as seen by calls at most LOOK_EVERY_S apart."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * LOOK_EVERY_S), now
        self._seconds = self._seconds + passed if count == self._count else 0.0
        self._count = count
        return self._seconds


class FailureWatch:
    """Reports a failure of this rank to the other ranks, and ends this process when another rank failed.

    In a collective, torch raises an error that does not name the failed rank. Outside of a collective, for example
    while a volume is evaluated for minutes, a rank would continue until the launcher kills it: torchrun waits 30 s,
    Slurm waits KillWait. Each process watches the one with the next rank, whose thread counts up in the store, and a
    second thread watches the first: a call of a store whose node is gone has no time limit (TCPStore.add). This costs
    the store three requests per process and second, of 0.1 ms each.
    """

    def __init__(self, store: Store, rank: int, world_size: int, on_failure: Callable[[str], None]):
        """`on_failure` is called with the failure message before the watch thread ends the process."""
        # A separate connection: the process group may be waiting on the other one.
        self._store, self._rank, self._world_size, self._on_failure = store.clone(), rank, world_size, on_failure
        self._ended, self._closed = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=work, name="failure watch", daemon=True) for work in (self._listen, self._time)
        ]
        self._watched, self._silence, self._answers = (rank + 1) % world_size, _Silence(), 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._closed.set()

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
        self._hear()
        if lost or first != message:
            raise PeerFailedError(first) from error

    def leave(self, *, keeps_store: bool) -> None:
        """Report that this process has finished; the process that runs the store waits until the others have too."""
        self._ended.set()
        # Without an answer from the store there is no process to wait for.
        with suppress(RuntimeError):
            self._store.set(f"left/{self._rank}", "")
            if keeps_store:
                self._wait_for_others()

    def _wait_for_others(self) -> None:
        """Until all have left, one has failed, or none of those that have not left says that it runs."""
        silence, poll_s = _Silence(), _LEAVE_POLL_S
        while not self._store.check([_FAILED]):
            working = [rank for rank in range(self._world_size) if not self._store.check([f"left/{rank}"])]
            counts = sum(self._store.add(f"alive/{rank}", 0) for rank in working)
            self._answers += 1
            if not working or silence.seconds_at(counts) > FAREWELL_S:
                return
            time.sleep(poll_s)
            poll_s = min(2 * poll_s, LOOK_EVERY_S)

    def _listen(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                self._store.add(f"alive/{self._rank}", 1)
                if self._is_silent():
                    self._store.compare_set(_FAILED, "", self._of_silent())
                self._answers += 1
                if not self._store.check([_FAILED]):
                    continue
                message = self._store.get(_FAILED).decode()
                self._hear()
            except RuntimeError:
                message = _NO_REPORT
            if self._ended.wait(GRACE_S):
                return
            self._end(message)

    def _hear(self) -> None:
        """Say that this process knows of the failure; rank 0, which runs the store, then waits for the others."""
        ends = time.monotonic() + HEAR_S
        with suppress(RuntimeError):
            self._store.set(f"heard/{self._rank}", "")
            deaf = [rank for rank in range(self._world_size) if rank != self._rank] if self._rank == 0 else []
            while deaf and time.monotonic() < ends:
                deaf = [rank for rank in deaf if not self._knows(rank)]
                self._answers += 1
                time.sleep(_LEAVE_POLL_S)

    def _knows(self, rank: int) -> bool:
        return self._store.check([f"heard/{rank}"]) or self._store.check([f"left/{rank}"])

    def _time(self) -> None:
        """End this process when the store no longer answers."""
        silence = _Silence()
        while not self._closed.wait(LOOK_EVERY_S):
            if silence.seconds_at(self._answers) > SILENT_S:
                self._end(_NO_ANSWER.format(seconds=SILENT_S))

    def _end(self, message: str) -> NoReturn:
        try:
            self._on_failure(message)
            print(f"{message}; this process ends too", file=sys.stderr, flush=True)
            sys.stdout.flush()
        finally:
            # A thread has no other way to end the process: the main thread may be blocked in any call.
            os._exit(1)

    def _is_silent(self) -> bool:
        """Whether the process with the next rank has not counted up for SILENT_S and has not left."""
        seconds = self._silence.seconds_at(self._store.add(f"alive/{self._watched}", 0))
        return seconds > SILENT_S and not self._store.check([f"left/{self._watched}"])

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
