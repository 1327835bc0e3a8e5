"""When one process of a job fails the others end too: at once, and with its words."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from torch._C._distributed_c10d import Store  # torch.distributed re-exports it, its types do not

_FAILED = "failed"
_LOST = (
    "lost another process, which said nothing: it was killed (for its memory, perhaps), or its node or the network "
    "failed; look at the ends of the other logs"
)
_WORDLESS = "rank 0 is gone without a word; look at its log"
LOOK_EVERY_S = 1.0
GRACE_S = 3.0
"""How long a process may take to end by itself (it does when it waits for the one that failed)."""

FAREWELL_S = 60.0
_FAREWELL_EVERY_S = 0.02


class PeerFailedError(Exception):
    """Another process of the job failed first."""


class FailureWatch:
    """Tells the other ranks that this one failed, and listens whether one of them did.

    In a collective a rank learns this from torch, with words that name nobody. Outside of one, in a volume that is
    evaluated for minutes, it would go on until the launcher kills it: torchrun waits 30 s, Slurm its KillWait.
    """

    def __init__(self, store: Store, rank: int, world_size: int, on_failure: Callable[[str], None]):
        """last_word: called with what is known before the process is ended from outside its main thread."""
        # A connection of its own: the process group may be waiting on the other.
        self._store, self._rank, self._world_size, self._on_failure = store.clone(), rank, world_size, on_failure
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="failure watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def tell(self, error: BaseException) -> None:
        """This process ends with `error`. Errors: PeerError when another one has failed before, with its words; and
        instead of what torch says of a connection that broke."""
        self._ended.set()
        lost = _is_lost_connection(error)
        words = f"rank {self._rank} ({socket.gethostname()}) " + (_LOST if lost else f"failed: {_one_line(error)}")
        try:
            first = self._store.compare_set(_FAILED, "", words).decode()
        except RuntimeError:
            raise PeerFailedError(_WORDLESS) from error
        if lost or first != words:
            raise PeerFailedError(first) from error

    def leave(self, *, keeps_store: bool) -> None:
        """This process is done; the one that keeps the store waits for the others to say so."""
        self._ended.set()
        ends = time.monotonic() + FAREWELL_S
        # Without an answer there is nobody to wait for.
        with suppress(RuntimeError):
            self._store.set(f"left/{self._rank}", "")
            everyone = [f"left/{rank}" for rank in range(self._world_size)]
            while keeps_store and not self._store.check(everyone) and time.monotonic() < ends:
                if self._store.check([_FAILED]):
                    return
                time.sleep(_FAREWELL_EVERY_S)

    def _listen(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                if not self._store.check([_FAILED]):
                    continue
                words = self._store.get(_FAILED).decode()
            except RuntimeError:
                words = _WORDLESS
            if self._ended.wait(GRACE_S):
                return
            self._on_failure(words)
            print(f"{words}; this one ends too", file=sys.stderr, flush=True)
            sys.stdout.flush()
            # From a thread there is no other way: the main thread may be in the middle of anything.
            os._exit(1)


def _is_lost_connection(error: BaseException) -> bool:
    """gloo's and nccl's words for a peer that is gone."""
    texts = ("Connection closed by peer", "Connection reset by peer", "remote process exited", "ncclRemoteError")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)


def _one_line(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
