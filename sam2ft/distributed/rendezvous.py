"""Rendezvous of the processes of a job: TCP store, port announcement, report of missing ranks (gloo and nccl)."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, NoReturn

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore  # torch.distributed's type stubs lack them
from torch.distributed import DistError

from sam2ft.core.errors import ConfigError, StopRequestedError
from sam2ft.distributed.launcher_environment import LauncherEnvironment

_POLL_EVERY_S = 0.1
_STOP_NOTICE_S = 1.0
_CONNECT_TIMEOUT_S = 2.0
"""Timeout for a connection to one port."""
_STORE_TIMEOUT_S = 10.0
_GREETING = "sam2ft"
_STOP = "stop"
_STOPPED = "stopped as asked before all processes had connected"


class RendezvousError(Exception):
    """Not all processes of the job connected in time."""


def rendezvous(launcher: LauncherEnvironment, timeout_s: float, stop_requested: Callable[[], bool]) -> Store:
    """Connect all ranks to one store, which rank 0 or torchrun's agent runs, and return it.

    Raises:
        RendezvousError: with the missing ranks after `timeout_s`.
        StopRequestedError: on every rank, when one of them was asked to stop before all had connected.
        ConfigError: when other programs use all ports.
    """
    ends = time.monotonic() + timeout_s
    within = f"within {timeout_s:g} s"
    if launcher.rank == 0 and stop_requested():
        raise StopRequestedError(_STOPPED)
    with (
        _serve(launcher)
        if launcher.keeps_store
        else nullcontext(_connect(launcher, ends, within, stop_requested)) as store
    ):
        store.set_timeout(timedelta(seconds=max(timeout_s, _CONNECT_TIMEOUT_S)))
        shared = PrefixStore(launcher.identity, store)
        try:
            _wait_for_all(shared, launcher, ends, within, stop_requested)
        except DistError:
            if stop_requested():
                raise StopRequestedError(_STOPPED) from None
            everyone = f"all {launcher.world_size} processes"
            raise RendezvousError(f"rank {launcher.name_of(0)} ended before {everyone} had connected") from None
    return shared


@contextmanager
def _serve(launcher: LauncherEnvironment) -> Iterator[TCPStore]:
    """Start rank 0's store; inside the block its port is announced to the other ranks.

    A single given port is the port of the store. Otherwise the first free port of `launcher.ports` announces the job's
    identity and the port of the store: a client of torch's store would wait for ever for a program of another kind,
    and would connect to the store of another job.
    """
    if len(launcher.ports) == 1:
        yield _store_at(launcher, launcher.ports)
        return
    announcer = _announcer_at(launcher)
    with announcer:
        store = _store_at(launcher, [port for port in launcher.ports if port != announcer.server_address[1]])
        announcer.answer = f"{_GREETING} {launcher.identity} {store.port}\n".encode()
        thread = threading.Thread(target=announcer.serve_forever, args=(_POLL_EVERY_S,), daemon=True)
        thread.start()
        try:
            yield store
        finally:
            announcer.shutdown()


class _PortAnnouncer(socketserver.TCPServer):
    """TCP server that sends one line to every client."""

    allow_reuse_address = True
    request_queue_size = 1024
    answer = b""

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.sendall(self.answer)


def _announcer_at(launcher: LauncherEnvironment) -> _PortAnnouncer:
    for port in launcher.ports:
        try:
            return _PortAnnouncer(("", port), socketserver.BaseRequestHandler)
        except OSError:
            continue
    raise _no_port(launcher)


def _store_at(launcher: LauncherEnvironment, ports: Sequence[int]) -> TCPStore:
    """Start a store on the first free port of `ports`."""
    for port in ports:
        # Checked first, because torch writes warnings.
        if not _port_is_free(port):
            continue
        try:
            return TCPStore("127.0.0.1", port, None, True, timedelta(seconds=_STORE_TIMEOUT_S), wait_for_workers=False)
        except DistError:
            # Another process took the port in the meantime.
            continue
    raise _no_port(launcher)


def _no_port(launcher: LauncherEnvironment) -> ConfigError:
    ports = ", ".join(map(str, launcher.ports))
    some = "port" if len(launcher.ports) == 1 else "each of the ports"
    return ConfigError(f"{some} {ports} on {launcher.address} is in use; set MASTER_PORT to a free port below 32768")


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _connect(launcher: LauncherEnvironment, ends: float, within: str, stop_requested: Callable[[], bool]) -> TCPStore:
    """Connect to the store of this attempt's rank 0, or of torchrun's agent."""
    while (store := _try_ports(launcher)) is None:
        if time.monotonic() > ends:
            ports = ", ".join(map(str, launcher.ports))
            meanwhile = " (asked to stop meanwhile)" if stop_requested() else ""
            raise RendezvousError(
                f"rank {launcher.name_of(launcher.rank)}: rank {launcher.name_of(0)} does not answer at "
                f"{launcher.address}, port {ports}, {within}{meanwhile}; see its log; if it runs, the nodes "
                "cannot reach each other: set MASTER_ADDR to an address of rank 0 that all nodes can reach"
            )
        time.sleep(_POLL_EVERY_S)
    return store


def _try_ports(launcher: LauncherEnvironment) -> TCPStore | None:
    for number in launcher.ports:
        try:
            with socket.create_connection((launcher.address, number), _CONNECT_TIMEOUT_S) as connection:
                port = number if len(launcher.ports) == 1 else _announced_port(connection, launcher)
            if port is not None:
                timeout = timedelta(seconds=_STORE_TIMEOUT_S)
                return TCPStore(launcher.address, port, None, False, timeout, wait_for_workers=False)
        except (OSError, DistError):
            continue
    return None


def _announced_port(connection: socket.socket, launcher: LauncherEnvironment) -> int | None:
    """The port of the store, if the announcement is from rank 0 of this attempt; else None."""
    with connection.makefile("rb") as stream:
        fields = stream.readline(4096).decode(errors="replace").split()
    return int(fields[2]) if fields[:2] == [_GREETING, launcher.identity] else None


def _wait_for_all(
    store: Store, launcher: LauncherEnvironment, ends: float, within: str, stop_requested: Callable[[], bool]
) -> None:
    """Wait for all ranks; when one of them was asked to stop, all stop.

    First every rank sets its `here` key. A rank that has seen all of them, and was not asked to stop until then, sets
    its `ready` key, and from then on reacts only to stop requests of other ranks. So either all ranks become ready, or
    one never does and all stop.
    """
    ranks = range(launcher.world_size)
    store.set(f"here/{launcher.rank}", socket.gethostname())
    _wait(store, [f"here/{rank}" for rank in ranks], launcher, (ends, within), stop_requested)
    if stop_requested():
        _stop(store, launcher)
    store.set(f"ready/{launcher.rank}", "")
    _wait(store, [f"ready/{rank}" for rank in ranks], launcher, (ends + _CONNECT_TIMEOUT_S, within), lambda: False)


def _wait(
    store: Store,
    keys: list[str],
    launcher: LauncherEnvironment,
    until: tuple[float, str],
    stop_requested: Callable[[], bool],
) -> None:
    """Wait until all `keys` (one of each rank) are set."""
    ends, within = until
    while not store.check(keys):
        if stop_requested() or store.check([_STOP]):
            _stop(store, launcher)
        if time.monotonic() > ends:
            missing = [launcher.name_of(rank) for rank, key in enumerate(keys) if not store.check([key])]
            raise RendezvousError(
                f"{len(missing)} of {launcher.world_size} processes did not connect {within}: rank "
                f"{', '.join(missing)}; see their logs"
            )
        time.sleep(_POLL_EVERY_S)


def _stop(store: Store, launcher: LauncherEnvironment) -> NoReturn:
    store.set(_STOP, "")
    if launcher.keeps_store:
        # The others check every _POLL_EVERY_S, and the store ends with this process.
        time.sleep(_STOP_NOTICE_S)
    raise StopRequestedError(_STOPPED)
