"""Ranks as threads of this process: the store is the same, and nothing of torch.distributed is global to it."""

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch._C._distributed_c10d import PrefixStore

from sam2ft.core.errors import ConfigError, StopRequestedError
from sam2ft.core.files import remove_partial
from sam2ft.distributed.failure_watch import FailureWatch, PeerFailedError
from sam2ft.distributed.launcher_environment import LauncherEnvironment
from sam2ft.distributed.ranks import process_group
from sam2ft.distributed.rendezvous import RendezvousError, _serve, rendezvous


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the run; `n1` is the only node of the step."""
    monkeypatch.setenv("SLURM_STEP_NODELIST", "n1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    return tmp_path


def places(world_size: int, *, identity: str = "0-77-0-0") -> list[LauncherEnvironment]:
    """Tasks of a Slurm step."""
    nodes = tuple(f"node n{rank}" for rank in range(world_size))
    return [LauncherEnvironment(rank, world_size, rank, identity, places=lambda: nodes) for rank in range(world_size)]


def met(
    folder: Path,
    of_ranks: list[LauncherEnvironment],
    timeout_s: float = 20,
    stop: dict[int, Callable[[], bool]] | None = None,
) -> dict[int, Any]:
    """Store or error of each rank of `of_ranks`."""
    found: dict[int, Any] = {}

    def run(launcher: LauncherEnvironment) -> None:
        try:
            asked = (stop or {}).get(launcher.rank, lambda: False)
            found[launcher.rank] = rendezvous(launcher, folder, timeout_s, asked)
        except Exception as error:  # noqa: BLE001 (whatever it is)
            found[launcher.rank] = error

    threads = [threading.Thread(target=run, args=(launcher,), daemon=True) for launcher in of_ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return found


def test_all_ranks_meet_at_one_store_and_leave_no_file(folder: Path) -> None:
    found = met(folder, places(3))
    found[2].set("from", "2")
    assert found[0].get("from") == b"2"
    assert list(folder.iterdir()) == []


def test_ranks_that_come_before_rank_0_and_before_the_folder_wait_for_them(folder: Path) -> None:
    first, *others = places(3)
    found: dict[int, Any] = {}
    waiting = threading.Thread(target=lambda: found.update(met(folder / "new", others)))
    waiting.start()
    time.sleep(0.3)
    found.update(met(folder / "new", [first]))
    waiting.join(timeout=20)
    found[0].set("key", "value")
    assert [found[rank].get("key") for rank in (1, 2)] == [b"value"] * 2


@pytest.mark.parametrize("other", ["0-77-1-0", "0-77-0-1", "0-78-0-0"])
def test_jobs_steps_and_attempts_of_one_folder_do_not_meet(folder: Path, other: str) -> None:
    """Of a training and an evaluation of one run, or of a node that was given up and goes on."""
    found_there: dict[int, Any] = {}
    others = places(2, identity=other)
    waiting = threading.Thread(target=lambda: found_there.update(met(folder, others[:1])))
    waiting.start()
    while not list(folder.glob(f".rendezvous-{other}.partial")):
        time.sleep(0.02)
    found = met(folder, places(2))
    found[1].set("key", "value")
    assert found[0].get("key") == b"value"
    assert not found_there, "the other job still waits for its own"
    found_there.update(met(folder, others[1:]))
    waiting.join(timeout=20)
    assert not found_there[0].check(["key"])


def test_a_new_claim_removes_what_a_killed_attempt_published(folder: Path) -> None:
    """Its name is that of a temporary file."""
    waiting = threading.Thread(target=met, args=(folder, places(2)[:1]), kwargs={"timeout_s": 0.5})
    waiting.start()
    while not list(folder.glob(".rendezvous-*")):
        time.sleep(0.02)
    remove_partial(folder)
    assert list(folder.iterdir()) == []
    waiting.join(timeout=20)


@pytest.fixture
def other_server() -> Iterator[int]:
    """Something of another kind that listens."""
    server = http.server.HTTPServer(("", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_a_given_port_that_is_in_use_is_named(folder: Path, other_server: int) -> None:
    launcher = replace(places(1)[0], port=other_server)
    with pytest.raises(ConfigError, match=f"port {other_server} of MASTER_PORT is in use on {socket.gethostname()}"):
        rendezvous(launcher, folder, 1, lambda: False)


def test_who_is_missing_is_named_with_the_nodes(folder: Path) -> None:
    found = met(folder, places(5)[:3], timeout_s=1)
    for error in found.values():
        assert isinstance(error, RendezvousError)
        assert str(error) == (
            "2 of 5 processes did not connect within 1 s: rank 3 (node n3), 4 (node n4); see their logs"
        )


@pytest.mark.parametrize("torchrun", [False, True])
def test_a_missing_rank_0_is_named_with_where_it_was_looked_for(folder: Path, torchrun: bool) -> None:
    second = places(2)[1]
    fault = f"has not written {folder / '.rendezvous-0-77-0-0.partial'}"
    if torchrun:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        second, fault = replace(second, address="127.0.0.1", port=port), f"does not answer at 127.0.0.1, port {port},"
    began = time.monotonic()
    error = met(folder, [second], timeout_s=1)[1]
    assert isinstance(error, RendezvousError)
    assert str(error).startswith(f"rank 1 (node n1): rank 0 (node n0) {fault} within 1 s; see its log;")
    assert "MASTER_ADDR" in str(error)
    assert time.monotonic() - began < 10


def test_a_rank_0_that_ends_while_the_others_wait_is_named(folder: Path) -> None:
    first, second, _ = places(3)
    store = _serve(first, folder / ".rendezvous-0-77-0-0.partial")
    found: dict[int, Any] = {}
    waiting = threading.Thread(target=lambda: found.update(met(folder, [second])))
    waiting.start()
    here = PrefixStore(first.identity, store)
    while not here.check(["here/1"]):
        time.sleep(0.02)
    del here, store
    waiting.join(timeout=20)
    assert str(found[1]) == "rank 0 (node n0) ended before all 3 processes had connected"


@pytest.mark.parametrize("told", [0, 1, 2])
def test_a_stop_of_one_rank_before_all_are_there_is_a_stop_of_all(folder: Path, told: int) -> None:
    """Also when the one that is missing will never come; long before the timeout."""
    began = time.monotonic()
    flags = {told: lambda: time.monotonic() > began + 0.5}
    found = met(folder, places(4)[:3], timeout_s=30, stop=flags)
    assert {type(error) for error in found.values()} == {StopRequestedError}
    assert time.monotonic() - began < 10


def test_a_rank_that_comes_last_and_was_told_to_stop_stops_all(folder: Path) -> None:
    first, last = places(2)
    found: dict[int, Any] = {}
    waiting = threading.Thread(target=lambda: found.update(met(folder, [first])))
    waiting.start()
    time.sleep(0.5)
    found.update(met(folder, [last], stop={1: lambda: True}))
    waiting.join(timeout=20)
    assert {type(error) for error in found.values()} == {StopRequestedError}


def test_the_ranks_of_torchruns_agent_meet_at_its_store(folder: Path) -> None:
    agent = met(folder, places(1, identity="agent"))[0]
    port = agent.underlying_store.port
    served = [replace(launcher, address="127.0.0.1", port=port, served=True) for launcher in places(2)]
    found = met(folder, served)
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


def test_a_rank_at_work_ends_with_the_words_of_the_one_that_failed(folder: Path, ending: Ending) -> None:
    stores = met(folder, places(2))
    with FailureWatch(stores[0], 0, 2, ending.words.append), FailureWatch(stores[1], 1, 2, lambda _: None) as failing:
        failing.tell(ValueError("no such slice\nand more"))
        ending.wait()
    assert ending.codes[0] == 1
    assert ending.words[0] == f"rank 1 ({socket.gethostname()}) failed: ValueError: no such slice"


def test_a_rank_that_fails_because_another_did_says_so(folder: Path, ending: Ending) -> None:
    stores = met(folder, places(3))
    one, two, three = (FailureWatch(stores[rank], rank, 3, ending.words.append) for rank in range(3))
    two.tell(MemoryError())
    for other in (one, three):
        with pytest.raises(PeerFailedError, match=r"rank 1 \(.*\) failed: MemoryError"):
            other.tell(RuntimeError("Connection closed by peer [127.0.0.1]:5"))
    assert ending.codes == []


def test_a_rank_that_lost_one_without_a_word_says_what_may_have_happened(folder: Path, ending: Ending) -> None:
    stores = met(folder, places(2))
    lost = RuntimeError("[/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:5516. GLHF!")
    with pytest.raises(
        PeerFailedError, match=r"rank 0 \(.*\) lost the connection to another process, which reported no error"
    ):
        FailureWatch(stores[0], 0, 2, ending.words.append).tell(lost)


def test_ranks_that_are_done_hear_nothing_of_an_end(folder: Path, ending: Ending) -> None:
    """The one that keeps the store waits until the others have said that they are done."""
    stores = met(folder, places(2))
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


def test_the_wish_to_stop_reaches_the_meeting_of_a_group(folder: Path) -> None:
    step = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
    with (
        pytest.raises(RendezvousError, match="asked to stop meanwhile"),
        process_group(
            folder,
            device="cpu",
            environment={**step, "SLURM_STEP_NODELIST": "n1"},
            init_timeout_s=0.5,
            stop_requested=lambda: True,
        ),
    ):
        pass
