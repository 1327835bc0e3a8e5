"""Processes that end, hang, are suspended or leave early, and what the others of their job do then."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import PrefixStore, TCPStore

from sam2ft.distributed import failure_watch
from sam2ft.distributed.failure_watch import FailureWatch

SILENT_S = 3.0
# Each rank either waits in a collective or works until it is allowed to end.
SCRIPT = f"""
import os, sys, time
from pathlib import Path
from sam2ft.distributed import failure_watch
from sam2ft.distributed.ranks import process_group
failure_watch.LOOK_EVERY_S, failure_watch.SILENT_S, failure_watch.GRACE_S = 0.1, {SILENT_S}, 0.3
failure_watch.FAREWELL_S = 1.0
folder, does = Path(sys.argv[1]), sys.argv[2]
rank = os.environ["SLURM_PROCID"]
with process_group(folder, device="cpu", on_failure=(folder / f"told.{{rank}}").write_text) as ranks:
    ranks.barrier()
    (folder / f"at.{{rank}}").touch()
    if does == "meets":
        ranks.barrier()
    while does == "works" and not (folder / f"end.{{rank}}").exists():
        time.sleep(0.02)
(folder / f"out.{{rank}}").touch()
"""


def until(state: Callable[[], bool], seconds: float = 60) -> float:
    """Wait for a state; returns the seconds that it took."""
    began = time.monotonic()
    while not state():
        assert time.monotonic() - began < seconds, "never came"
        time.sleep(0.02)
    return time.monotonic() - began


class Job:
    """The processes of one job, each with its log."""

    def __init__(self, folder: Path, does: str) -> None:
        self.folder, kinds = folder, does.split()
        folder.mkdir(exist_ok=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        clean |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2]), "SLURM_JOB_ID": "77"}
        clean |= {"SLURM_STEP_ID": "0", "SLURM_NTASKS": str(len(kinds)), "SLURM_STEP_NODELIST": "n1"}
        self.children = []
        for rank, kind in enumerate(kinds):
            environment = clean | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
            with (folder / f"{rank}.log").open("w") as log:
                command = [sys.executable, "-c", SCRIPT, str(folder), kind]
                self.children.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def begun(self) -> None:
        until(lambda: all((self.folder / f"at.{rank}").exists() for rank in range(len(self.children))))

    def send(self, rank: int, number: signal.Signals) -> None:
        self.children[rank].send_signal(number)

    def words(self, rank: int) -> str:
        return (self.folder / f"{rank}.log").read_text()

    def ends(self, rank: int) -> int:
        return self.children[rank].wait(timeout=60)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def start(does: str, name: str = "job") -> Job:
        jobs.append(Job(tmp_path / name, does))
        return jobs[-1]

    yield start
    for child in [child for one in jobs for child in one.children]:
        with suppress(ProcessLookupError):
            child.kill()
        child.wait()


def test_a_rank_that_is_killed_takes_those_in_a_collective_with_it_within_seconds(job: Callable[..., Job]) -> None:
    three = job("meets works meets")
    three.begun()
    three.send(1, signal.SIGKILL)
    assert until(lambda: None not in [child.poll() for child in three.children]) < 15
    assert [three.ends(rank) for rank in (0, 2)] == [1, 1]
    assert all("lost the connection to another process" in three.words(rank) for rank in (0, 2))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_says_nothing_is_named_by_those_that_work_and_those_that_wait(
    number: signal.Signals, job: Callable[..., Job]
) -> None:
    three = job("works works works" if number == signal.SIGKILL else "works works meets")
    three.begun()
    three.send(1, number)
    assert [three.ends(rank) for rank in (0, 2)] == [1, 1]
    for rank in (0, 2):
        assert f"rank 1 said nothing for {SILENT_S:.0f} s" in three.words(rank)
        assert three.words(rank).rstrip().endswith("; this process ends too")
        assert (three.folder / f"told.{rank}").read_text().startswith("rank 1 said nothing")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        pytest.param(signal.SIGKILL, "rank 0 ended without reporting", marks=pytest.mark.slow),
        pytest.param(signal.SIGSTOP, "rank 0 said nothing", marks=pytest.mark.slow),
    ],
)
def test_without_the_store_the_others_end_too(number: signal.Signals, words: str, job: Callable[..., Job]) -> None:
    """A stopped process stands for a node that lost its power: nothing answers, and no connection is closed."""
    three = job("works works meets")
    three.begun()
    three.send(0, number)
    assert [three.ends(rank) for rank in (1, 2)] == [1, 1]
    assert words in three.words(1)


@pytest.mark.slow
def test_a_job_that_was_suspended_for_longer_goes_on(job: Callable[..., Job]) -> None:
    """Slurm suspends all processes of a job (`scontrol suspend`, gang scheduling)."""
    pair = job("works works")
    pair.begun()
    for rank in (0, 1):
        pair.send(rank, signal.SIGSTOP)
    time.sleep(2 * SILENT_S)  # not a wait for a state: this long nothing happens
    for rank in (0, 1):
        pair.send(rank, signal.SIGCONT)
    for rank in (0, 1):
        (pair.folder / f"end.{rank}").touch()
    assert [pair.ends(rank) for rank in (0, 1)] == [0, 0]


@pytest.mark.slow
def test_a_rank_that_has_finished_waits_for_those_that_work_on(job: Callable[..., Job]) -> None:
    """The first one runs the store; it waits longer than for its farewell, as long as the others say that they run."""
    three = job("leaves works works")
    until(lambda: all((three.folder / f"at.{rank}").exists() for rank in (1, 2)))
    (three.folder / "end.1").touch()
    assert three.ends(1) == 0
    time.sleep(2.5)  # more than FAREWELL_S
    assert three.children[0].poll() is None
    (three.folder / "end.2").touch()
    assert [three.ends(rank) for rank in (0, 2)] == [0, 0]


@pytest.mark.slow
def test_two_jobs_do_not_hear_each_other(job: Callable[..., Job]) -> None:
    first, second = job("works works", "first"), job("works works", "second")
    first.begun()
    second.begun()
    first.send(1, signal.SIGKILL)
    assert first.ends(0) == 1
    (second.folder / "end.0").touch()
    (second.folder / "end.1").touch()
    assert [second.ends(rank) for rank in (0, 1)] == [0, 0]


def test_two_attempts_on_one_store_do_not_hear_each_other() -> None:
    """torchrun's agent keeps its store over restarts."""
    store = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=10), wait_for_workers=False)
    before, after = (PrefixStore(name, store) for name in ("job-0", "job-1"))
    with FailureWatch(before, 0, 2, lambda _: None) as watch:
        watch.tell(ValueError("of the attempt before"))
    with FailureWatch(after, 1, 2, lambda _: None) as watch:
        watch.tell(ValueError("of this one"))


class Counted:
    """A store that counts its requests."""

    def __init__(self) -> None:
        self.requests = 0

    def clone(self) -> "Counted":
        return self

    def add(self, key: str, amount: int) -> int:
        self.requests += 1
        return self.requests

    def check(self, keys: list[str]) -> bool:
        self.requests += 1
        return False


def test_a_process_asks_the_store_three_times_per_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([False] * 10 + [True])
    store = Counted()
    watch = FailureWatch(store, 0, 64, lambda _: None)  # type: ignore[arg-type]
    monkeypatch.setattr(watch._ended, "wait", lambda _seconds: next(looks))
    watch._listen()
    assert store.requests == 30


def test_time_in_which_this_process_did_not_run_is_no_silence_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(failure_watch.time, "monotonic", lambda: clock[0])
    silence = failure_watch._Silence()
    said = []
    for passed, count in ((1, 1), (1, 1), (1, 1), (1000, 1), (1, 2), (1, 2)):
        clock[0] += passed
        said.append(silence.seconds_at(count))
    assert said == [0, 1, 2, 4, 0, 1]
