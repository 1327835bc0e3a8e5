"""Ranks as threads of this process: the store is the same, and nothing of torch.distributed is global to it."""

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from sam2ft.core.errors import ConfigError, StopRequestedError
from sam2ft.distributed.failure_watch import FailureWatch, PeerFailedError
from sam2ft.distributed.launcher_environment import LauncherEnvironment
from sam2ft.distributed.ranks import process_group
from sam2ft.distributed.rendezvous import RendezvousError, rendezvous


def free_ports(number: int) -> tuple[int, ...]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return tuple(int(probe.getsockname()[1]) for probe in probes)


def places(
    world_size: int, *, ports: tuple[int, ...] | None = None, identity: str = "job"
) -> list[LauncherEnvironment]:
    chosen = ports or free_ports(3)
    nodes = tuple(f"n{rank}" for rank in range(world_size))
    return [
        LauncherEnvironment(rank, world_size, rank, "127.0.0.1", chosen, identity, nodes) for rank in range(world_size)
    ]


def met(
    of_ranks: list[LauncherEnvironment], timeout_s: float = 20, stop: dict[int, Callable[[], bool]] | None = None
) -> dict[int, Any]:
    """Store or error of each rank of `of_ranks`."""
    found: dict[int, Any] = {}

    def run(launcher: LauncherEnvironment) -> None:
        try:
            found[launcher.rank] = rendezvous(launcher, timeout_s, (stop or {}).get(launcher.rank, lambda: False))
        except Exception as error:  # noqa: BLE001 (whatever it is)
            found[launcher.rank] = error

    threads = [threading.Thread(target=run, args=(launcher,), daemon=True) for launcher in of_ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return found


def test_all_ranks_meet_at_one_store() -> None:
    found = met(places(3))
    found[2].set("from", "2")
    assert found[0].get("from") == b"2"


@pytest.fixture
def other_server() -> Iterator[int]:
    """Something of another kind that listens."""
    server = http.server.HTTPServer(("", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_a_port_of_another_program_or_job_is_passed_over(other_server: int) -> None:
    """By rank 0, which takes the next one, and by the others, who must not meet in the other job that waits there."""
    taken, spare, free, next_one = free_ports(4)
    others = places(2, ports=(taken, spare), identity="other-job")
    found_there: dict[int, Any] = {}
    waiting = threading.Thread(target=lambda: found_there.update(met(others[:1])))
    waiting.start()
    while socket.socket().connect_ex(("127.0.0.1", taken)):
        time.sleep(0.02)
    found = met(places(2, ports=(other_server, taken, spare, free, next_one)))
    found[1].set("key", "value")
    assert found[0].get("key") == b"value"
    assert not found_there, "the other job still waits for its own"
    found_there.update(met(others[1:]))
    waiting.join(timeout=20)
    assert not found_there[0].check(["key"])


def test_no_free_port_at_all_is_named(other_server: int) -> None:
    (launcher,) = places(1, ports=(other_server,))
    with pytest.raises(ConfigError, match=f"port {other_server} on 127.0.0.1 is in use; set MASTER_PORT"):
        rendezvous(launcher, 1, lambda: False)


def test_who_is_missing_is_named_with_the_nodes() -> None:
    found = met(places(5)[:3], timeout_s=1)
    for error in found.values():
        assert isinstance(error, RendezvousError)
        assert str(error).startswith("2 of 5 processes did not connect within 1 s: rank 3 (node n3), 4 (node n4);")


def test_a_missing_rank_0_is_named_with_its_address() -> None:
    second = places(2)[1]
    began = time.monotonic()
    error = met([second], timeout_s=1)[1]
    assert isinstance(error, RendezvousError)
    assert str(error).startswith(
        f"rank 1 (node n1): rank 0 (node n0) does not answer at 127.0.0.1, port {second.ports[0]}, "
    )
    assert "MASTER_ADDR" in str(error)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("told", [0, 1, 2])
def test_a_stop_of_one_rank_before_all_are_there_is_a_stop_of_all(told: int) -> None:
    """Also when the one that is missing will never come; long before the timeout."""
    began = time.monotonic()
    flags = {told: lambda: time.monotonic() > began + 0.5}
    found = met(places(4)[:3], timeout_s=30, stop=flags)
    assert {type(error) for error in found.values()} == {StopRequestedError}
    assert time.monotonic() - began < 10


def test_a_rank_that_comes_last_and_was_told_to_stop_stops_all() -> None:
    first, last = places(2)
    found: dict[int, Any] = {}
    waiting = threading.Thread(target=lambda: found.update(met([first])))
    waiting.start()
    time.sleep(0.5)
    found.update(met([last], stop={1: lambda: True}))
    waiting.join(timeout=20)
    assert {type(error) for error in found.values()} == {StopRequestedError}


def test_the_ranks_of_torchruns_agent_meet_at_its_store() -> None:
    agent = met(places(1, identity="agent"))[0]
    port = agent.underlying_store.port
    served = [replace(launcher, ports=(port,), served=True) for launcher in places(2)]
    found = met(served)
    found[0].set("key", "value")
    assert found[1].get("key") == b"value"


class Ending:
    """What FailureWatch would have done to the process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.codes: list[int] = []
        self.words: list[str] = []
        monkeypatch.setattr("sam2ft.distributed.failure_watch.LOOK_EVERY_S", 0.05)
        monkeypatch.setattr("sam2ft.distributed.failure_watch.GRACE_S", 0.2)
        monkeypatch.setattr("sam2ft.distributed.failure_watch.os._exit", self.codes.append)

    def wait(self) -> None:
        ends = time.monotonic() + 20
        while not self.codes:
            assert time.monotonic() < ends
            time.sleep(0.02)


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Ending:
    return Ending(monkeypatch)


def test_a_rank_at_work_ends_with_the_words_of_the_one_that_failed(ending: Ending) -> None:
    stores = met(places(2))
    with FailureWatch(stores[0], 0, 2, ending.words.append), FailureWatch(stores[1], 1, 2, lambda _: None) as failing:
        failing.tell(ValueError("no such slice\nand more"))
        ending.wait()
    assert ending.codes[0] == 1
    assert ending.words[0] == f"rank 1 ({socket.gethostname()}) failed: ValueError: no such slice"


def test_a_rank_that_fails_because_another_did_says_so(ending: Ending) -> None:
    stores = met(places(3))
    one, two, three = (FailureWatch(stores[rank], rank, 3, ending.words.append) for rank in range(3))
    two.tell(MemoryError())
    for other in (one, three):
        with pytest.raises(PeerFailedError, match=r"rank 1 \(.*\) failed: MemoryError"):
            other.tell(RuntimeError("Connection closed by peer [127.0.0.1]:5"))
    assert ending.codes == []


def test_a_rank_that_lost_one_without_a_word_says_what_may_have_happened(ending: Ending) -> None:
    stores = met(places(2))
    lost = RuntimeError("[/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:5516. GLHF!")
    with pytest.raises(
        PeerFailedError, match=r"rank 0 \(.*\) lost the connection to another process, which reported no error"
    ):
        FailureWatch(stores[0], 0, 2, ending.words.append).tell(lost)


def test_ranks_that_are_done_hear_nothing_of_an_end(ending: Ending) -> None:
    """The one that keeps the store waits until the others have said that they are done."""
    stores = met(places(2))
    with (
        FailureWatch(stores[0], 0, 2, ending.words.append) as first,
        FailureWatch(stores[1], 1, 2, ending.words.append) as second,
    ):
        waiting = threading.Thread(target=first.leave, kwargs={"keeps_store": True})
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive()
        second.leave(keeps_store=False)
        waiting.join(timeout=20)
        assert not waiting.is_alive()
    time.sleep(0.3)
    assert (ending.codes, ending.words) == ([], [])


def test_the_wish_to_stop_reaches_the_meeting_of_a_group() -> None:
    (port,) = free_ports(1)
    environment = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
    with (
        pytest.raises(RendezvousError, match="asked to stop meanwhile"),
        process_group(
            device="cpu",
            environment={**environment, "MASTER_PORT": str(port)},
            init_timeout_s=0.5,
            stop_requested=lambda: True,
        ),
    ):
        pass
