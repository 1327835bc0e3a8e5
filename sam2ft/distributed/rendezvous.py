"""How the processes of a job find each other, and who is missing when they do not. The same for gloo and nccl."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, NoReturn

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore  # torch.distributed re-exports, its types do not
from torch.distributed import DistError

from sam2ft.core.errors import ConfigError, StopRequestedError
from sam2ft.distributed.launcher_environment import LauncherEnvironment

_ASK_EVERY_S = 0.1
_FAREWELL_S = 1.0
_TRY_S = 2.0
"""How long one port may take to answer."""
_SERVE_S = 10.0
_GREETING = "sam2ft"
_STOP = "stop"
_STOPPED = "stopped as asked before the processes had met"


class RendezvousError(Exception):
    """Not all processes of the job appeared."""


def rendezvous(launcher: LauncherEnvironment, timeout_s: float, stop_requested: Callable[[], bool]) -> Store:
    """The store at which all ranks have met; rank 0 or torchrun's agent keeps it.

    Errors: MeetingError naming who is missing after `timeout_s`; StopRequestedError on every rank when one of them was
    told to stop before all had met; ConfigError when other programs hold all ports.
    """
    ends = time.monotonic() + timeout_s
    late = f"within {timeout_s:g} s"
    if launcher.rank == 0 and stop_requested():
        raise StopRequestedError(_STOPPED)
    with (
        _serve(launcher)
        if launcher.keeps_store
        else nullcontext(_connect(launcher, ends, late, stop_requested)) as store
    ):
        store.set_timeout(timedelta(seconds=max(timeout_s, _TRY_S)))
        shared = PrefixStore(launcher.identity, store)
        try:
            _wait_for_all(shared, launcher, ends, late, stop_requested)
        except DistError:
            if stop_requested():
                raise StopRequestedError(_STOPPED) from None
            everyone = f"all {launcher.world_size} processes"
            raise RendezvousError(f"rank {launcher.name_of(0)} left before {everyone} had met") from None
    return shared


@contextmanager
def _serve(launcher: LauncherEnvironment) -> Iterator[TCPStore]:
    """Rank 0's store. Inside the block the others learn where it is.

    A port that was given is the store's own. Else the first free one of the place's says who listens, and at which port
    the store is: a client of torch's store waits for ever for the answer of a program of another kind, and would meet
    gladly in the store of another job.
    """
    if len(launcher.ports) == 1:
        yield _store_at(launcher, launcher.ports)
        return
    announcer = _announcer_at(launcher)
    with announcer:
        store = _store_at(launcher, [port for port in launcher.ports if port != announcer.server_address[1]])
        announcer.answer = f"{_GREETING} {launcher.identity} {store.port}\n".encode()
        thread = threading.Thread(target=announcer.serve_forever, args=(_ASK_EVERY_S,), daemon=True)
        thread.start()
        try:
            yield store
        finally:
            announcer.shutdown()


class _PortAnnouncer(socketserver.TCPServer):
    """Says one line to everybody who comes."""

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
    """A store at the first of `ports` that is free."""
    for port in ports:
        # Asked first: torch writes warnings.
        if not _port_is_free(port):
            continue
        try:
            return TCPStore("127.0.0.1", port, None, True, timedelta(seconds=_SERVE_S), wait_for_workers=False)
        except DistError:
            # Another process was faster.
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


def _connect(launcher: LauncherEnvironment, ends: float, late: str, stop_requested: Callable[[], bool]) -> TCPStore:
    """The store of this attempt's rank 0, or of torchrun's agent."""
    while (store := _found(launcher)) is None:
        if time.monotonic() > ends:
            ports = ", ".join(map(str, launcher.ports))
            meanwhile = " (told to stop meanwhile)" if stop_requested() else ""
            raise RendezvousError(
                f"rank {launcher.name_of(launcher.rank)}: rank {launcher.name_of(0)} does not answer at "
                f"{launcher.address}, port {ports}, {late}{meanwhile}; look at its log; when it runs, the nodes "
                "do not reach each other: set MASTER_ADDR to an address that they do"
            )
        time.sleep(_ASK_EVERY_S)
    return store


def _found(launcher: LauncherEnvironment) -> TCPStore | None:
    for number in launcher.ports:
        try:
            with socket.create_connection((launcher.address, number), _TRY_S) as connection:
                port = number if len(launcher.ports) == 1 else _announced_port(connection, launcher)
            if port is not None:
                timeout = timedelta(seconds=_SERVE_S)
                return TCPStore(launcher.address, port, None, False, timeout, wait_for_workers=False)
        except (OSError, DistError):
            continue
    return None


def _announced_port(connection: socket.socket, launcher: LauncherEnvironment) -> int | None:
    """The port of the store, when it is this attempt's rank 0 who says it."""
    with connection.makefile("rb") as stream:
        words = stream.readline(4096).decode(errors="replace").split()
    return int(words[2]) if words[:2] == [_GREETING, launcher.identity] else None


def _wait_for_all(
    store: Store, launcher: LauncherEnvironment, ends: float, late: str, stop_requested: Callable[[], bool]
) -> None:
    """Wait for all ranks, unless one of them was told to stop: then all stop.

    First every rank says that it is here. Who has seen all of them, and was not told to stop until then, says that it
    is ready, and from then on heeds only the others' wish to stop: so either all become ready, or somebody never will
    be and all stop.
    """
    ranks = range(launcher.world_size)
    store.set(f"here/{launcher.rank}", socket.gethostname())
    _wait(store, [f"here/{rank}" for rank in ranks], launcher, (ends, late), stop_requested)
    if stop_requested():
        _stop(store, launcher)
    store.set(f"ready/{launcher.rank}", "")
    _wait(store, [f"ready/{rank}" for rank in ranks], launcher, (ends + _TRY_S, late), lambda: False)


def _wait(
    store: Store,
    keys: list[str],
    launcher: LauncherEnvironment,
    until: tuple[float, str],
    stop_requested: Callable[[], bool],
) -> None:
    """Until all `keys` (one of each rank) are there."""
    ends, late = until
    while not store.check(keys):
        if stop_requested() or store.check([_STOP]):
            _stop(store, launcher)
        if time.monotonic() > ends:
            missing = [launcher.name_of(rank) for rank, key in enumerate(keys) if not store.check([key])]
            raise RendezvousError(
                f"{len(missing)} of {launcher.world_size} processes did not appear {late}: rank {', '.join(missing)}; "
                "look at their logs"
            )
        time.sleep(_ASK_EVERY_S)


def _stop(store: Store, launcher: LauncherEnvironment) -> NoReturn:
    store.set(_STOP, "")
    if launcher.keeps_store:
        # The others ask every _ASK_EVERY_S, and the store ends with this process.
        time.sleep(_FAREWELL_S)
    raise StopRequestedError(_STOPPED)
