"""Rendezvous of the processes of a job: one TCP store, its address in the run's folder, report of missing ranks."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore  # torch.distributed's type stubs lack them
from torch.distributed import DistError

from sam2ft.core.errors import ConfigError, StopRequestedError
from sam2ft.core.files import write_text
from sam2ft.distributed.launcher_environment import LauncherEnvironment, own_address

_POLL_EVERY_S = 0.1
_NOTICE_S = 1.0
"""The others look every _POLL_EVERY_S, and the store ends with the process that keeps it."""
_CONNECT_TIMEOUT_S = 2.0
_STORE_TIMEOUT = timedelta(seconds=10)
_DECIDED, _GO, _STOP = "decided", "go", "stop"
_STOPPED = "stopped as asked before all processes had connected"


class RendezvousError(Exception):
    """Not all processes of the job connected in time."""


def rendezvous(
    launcher: LauncherEnvironment, folder: Path, timeout_s: float, stop_requested: Callable[[], bool]
) -> Store:
    """Connect all ranks to one store, which rank 0 or torchrun's agent runs, and return it.

    Args:
        folder: on a file system that all nodes share; in a Slurm step rank 0 publishes there where its store listens,
            in a file with the name of this attempt.

    Raises:
        RendezvousError: with the missing ranks after `timeout_s`.
        StopRequestedError: on every rank, when one of them was asked to stop before all had connected.
        ConfigError: when another program uses the port in MASTER_PORT.
    """
    if launcher.rank == 0 and stop_requested():
        raise StopRequestedError(_STOPPED)
    published = folder / f".rendezvous-{launcher.identity}.partial"
    waits = _Waiting(launcher, time.monotonic() + timeout_s, f"within {timeout_s:g} s", stop_requested)
    try:
        store = _serve(launcher, published) if launcher.keeps_store else _connect(waits, published)
        store.set_timeout(timedelta(seconds=max(timeout_s, _CONNECT_TIMEOUT_S)))
        shared = PrefixStore(launcher.identity, store)
        _decide(shared, waits)
    except DistError:
        if stop_requested():
            raise StopRequestedError(_STOPPED) from None
        everyone = f"all {launcher.world_size} processes"
        raise RendezvousError(f"rank {launcher.name_of(0)} ended before {everyone} had connected") from None
    finally:
        if launcher.keeps_store:
            published.unlink(missing_ok=True)
    return shared


@dataclass(frozen=True)
class _Waiting:
    """The rank that waits for the others, and until when."""

    launcher: LauncherEnvironment
    ends: float
    within: str
    stop_requested: Callable[[], bool]


def _serve(launcher: LauncherEnvironment, published: Path) -> TCPStore:
    """Start rank 0's store; in a Slurm step its address is published."""
    try:
        store = TCPStore("127.0.0.1", launcher.port, None, True, _STORE_TIMEOUT, wait_for_workers=False)
    except DistError:
        raise ConfigError(f"port {launcher.port} of MASTER_PORT is in use on {socket.gethostname()}") from None
    if not launcher.address:
        write_text(published, f"{own_address()} {store.port}")
    return store


def _connect(waits: _Waiting, published: Path) -> TCPStore:
    """Connect to the store of this attempt's rank 0, or of torchrun's agent."""
    launcher, where = waits.launcher, ""
    while True:
        with suppress(OSError, DistError):
            where = f"{launcher.address} {launcher.port}" if launcher.address else _read(published)
            if where:
                address, port = where.split()
                # Checked first, because torch prints pages of warnings when nobody listens.
                socket.create_connection((address, int(port)), _CONNECT_TIMEOUT_S).close()
                return TCPStore(address, int(port), None, False, _STORE_TIMEOUT, wait_for_workers=False)
        if time.monotonic() > waits.ends:
            break
        time.sleep(_POLL_EVERY_S)
    fault = f"does not answer at {where.replace(' ', ', port ')}," if where else f"has not written {published}"
    meanwhile = " (asked to stop meanwhile)" if waits.stop_requested() else ""
    raise RendezvousError(
        f"rank {launcher.name_of(launcher.rank)}: rank {launcher.name_of(0)} {fault} {waits.within}{meanwhile}; "
        "see its log; if it runs, this node cannot read that file or reach rank 0: put the runs on a file system that "
        "all nodes share, or set MASTER_ADDR in slurm.setup of the site to an address of rank 0 that they can reach"
    )


def _read(published: Path) -> str:
    """Address and port in the file; empty until it is there."""
    # NFS remembers for a while that a file does not exist; opening its folder makes it look again.
    return published.read_text() if published.name in os.listdir(published.parent) else ""


def _decide(store: Store, waits: _Waiting) -> None:
    """Wait for all ranks. The first that sees a reason to go on, to stop or to give up decides for all of them.

    A rank that is asked to stop later goes on: from then on the ranks agree by `StopConsensus`.
    """
    launcher = waits.launcher
    everyone = [f"here/{rank}" for rank in range(launcher.world_size)]
    if not waits.stop_requested():
        store.set(everyone[launcher.rank], "")
    while not store.check([_DECIDED]):
        if waits.stop_requested():
            store.compare_set(_DECIDED, "", _STOP)
        elif store.check(everyone):
            store.compare_set(_DECIDED, "", _GO)
        elif time.monotonic() > waits.ends:
            missing = [launcher.name_of(rank) for rank, key in enumerate(everyone) if not store.check([key])]
            late = f"{len(missing)} of {launcher.world_size} processes did not connect {waits.within}"
            store.compare_set(_DECIDED, "", f"{late}: rank {', '.join(missing)}; see their logs")
        else:
            time.sleep(_POLL_EVERY_S)
    decided = store.get(_DECIDED).decode()
    if decided != _GO:
        if launcher.keeps_store:
            time.sleep(_NOTICE_S)
        raise StopRequestedError(_STOPPED) if decided == _STOP else RendezvousError(decided)
