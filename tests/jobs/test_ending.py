"""Every way in which a job can end: exit code, what status.json says, and whether a requeue is asked for."""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.command import run_command
from sam2ft.core.errors import (
    CheckpointError,
    ClaimedError,
    ConfigError,
    DataError,
    DiskError,
    IncompleteError,
    StopRequestedError,
    UserError,
)
from sam2ft.core.files import write_json
from sam2ft.distributed import failure_watch
from sam2ft.distributed.failure_watch import PeerFailedError
from sam2ft.distributed.rendezvous import RendezvousError
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.jobs.job import PointJob, _code_of
from sam2ft.runs.attempt.claim import MAX_RESTARTS, Attempt
from sam2ft.runs.attempt.ending import failure_class_of, record_ending
from sam2ft.runs.attempt.restarts import NotRestartableError
from sam2ft.runs.attempt.status import read_status, update_status
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.runs.plan_file import PlannedPoint, PlannedRun, Resources

RESOURCES = Resources(1, 1, 0, 1, 1.0, 1.0)
RUN = PlannedRun(0, "toy-0123456789abcdef", "train", False, (PlannedPoint("toy", (), "a" * 12),), RESOURCES, RESOURCES)
OUTSIDE: dict[str, str] = {}
INSIDE = {"SLURM_JOB_ID": "20", "SLURM_RESTART_COUNT": "1", MAX_RESTARTS: "3"}
LAST = {**INSIDE, "SLURM_RESTART_COUNT": "3"}


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return ExperimentLayout(tmp_path / "toy").run(RUN.run_id)


def end(
    layout: RunLayout,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    error: BaseException | None,
    **stop: Any,
) -> tuple[int, tuple[str, str | None, bool]]:
    """The code of a job whose work raised `error`, and (state, class, whether there is a marker)."""
    for name in [name for name in os.environ if name.startswith("SLURM_")] + [MAX_RESTARTS, "RANK", "WORLD_SIZE"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    flag = StopFlag()
    flag.signal = stop.get("signal")

    def do(*_: object) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr("sam2ft.jobs.job._do", do)
    code = _code_of(PointJob(layout, RUN, "train", Attempt.current()), flag)
    status = read_status(layout)
    assert status is not None
    return code, (status.state, status.failure_class, layout.requeue.exists())


DISK = ("failed", "disk", False)
STOP = StopRequestedError("stopped as asked after step 7")


@pytest.mark.parametrize(
    ("environment", "error", "code", "says"),
    [
        (OUTSIDE, None, 0, ("done", None, False)),
        (INSIDE, None, 0, ("done", None, False)),
        (INSIDE, ZeroDivisionError(), 1, ("failed", "error", False)),
        (INSIDE, MemoryError(), 1, ("failed", "oom", False)),
        (INSIDE, RendezvousError("1 of 2 processes did not connect"), 1, ("failed", "error", False)),
        (
            INSIDE,
            PeerFailedError("rank 1 (n2) failed: OutOfMemoryError: CUDA out of memory"),
            1,
            ("failed", "oom", False),
        ),
        (INSIDE, OSError(errno.ENOSPC, "No space left on device", "best.pt"), 4, ("failed", "disk", False)),
        (INSIDE, OSError(errno.EROFS, "Read-only file system", "best.pt"), 4, ("failed", "disk", False)),
        (OUTSIDE, DiskError("best.pt: over quota"), 4, ("failed", "disk", False)),
        (OUTSIDE, FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 2, ("failed", "error", False)),
        (INSIDE, PeerFailedError("rank 1 (n2) failed: OSError: [Errno 28] No space left on device: 'a'"), 4, DISK),
        (INSIDE, ConfigError("no such loss"), 2, ("failed", "error", False)),
        (OUTSIDE, CheckpointError("of another model"), 2, ("failed", "error", False)),
        (OUTSIDE, IncompleteError("2 subjects refused"), 1, ("failed", "error", False)),
        (OUTSIDE, STOP, 143, ("stopped", None, False)),
        (INSIDE, STOP, 75, ("stopped", None, True)),
        (LAST, STOP, 1, ("failed", "timeout", False)),
        (INSIDE, NotRestartableError("no_progress", "2 restarts"), 1, ("failed", "no_progress", False)),
        (OUTSIDE, KeyboardInterrupt(), 130, ("stopped", None, False)),
        (INSIDE, KeyboardInterrupt(), 130, ("stopped", None, False)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_how_a_job_ends(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch, environment: Any, error: Any, code: int, says: Any
) -> None:
    assert end(layout, monkeypatch, environment, error) == (code, says)


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_time_up_and_told_to_stop_are_one_inside_slurm(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    assert end(layout, monkeypatch, INSIDE, STOP, signal=number) == (75, ("stopped", None, True))


def test_ctrl_c_in_an_interactive_allocation_asks_for_no_requeue(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert end(layout, monkeypatch, INSIDE, STOP, signal=signal.SIGINT) == (130, ("stopped", None, False))
    assert end(layout, monkeypatch, LAST, STOP, signal=signal.SIGINT) == (130, ("stopped", None, False))


def test_a_replaced_attempt_ends_with_1_and_leaves_the_word_to_the_newer_one(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = Attempt("20", 2, "n2", 7, "2026-01-01T00:00:00+00:00")

    def taken_over(*_: object) -> None:
        write_json(layout.claim, newer.to_json())

    monkeypatch.setattr("sam2ft.jobs.job.refuse_idle", taken_over)
    for ended_by in (None, STOP, ZeroDivisionError(), ClaimedError("found out while writing")):
        layout.claim.unlink(missing_ok=True)
        assert end(layout, monkeypatch, INSIDE, ended_by) == (1, ("starting", None, False))
    assert "now held by job 20 (restart 2, n2, process 7)" in capsys.readouterr().err


def test_an_attempt_that_comes_too_late_changes_nothing(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    assert end(layout, monkeypatch, INSIDE, STOP)[0] == 75
    before = {path: path.read_bytes() for path in layout.folder.rglob("*") if path.is_file()}
    assert end(layout, monkeypatch, {**INSIDE, "SLURM_RESTART_COUNT": "0"}, None)[0] == 1
    assert {path: path.read_bytes() for path in layout.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("text", "failure_class"),
    [
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17 bytes", "oom"),
        ("CUDA error: out of memory", "oom"),
        ("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "oom"),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "oom"),
        ("DataLoader worker (pid 7) is killed by signal: Segmentation fault. ", "error"),
        ("expected 3 channels", "error"),
    ],
)
def test_what_ran_out_of_memory_is_told_by_its_words(text: str, failure_class: str) -> None:
    assert failure_class_of(RuntimeError(text)) == failure_class


def test_a_lost_process_is_no_proof_of_exhausted_memory() -> None:
    """The message names memory as one of several causes; the class decides which runs `--retry oom` starts."""
    assert failure_class_of(RuntimeError(failure_watch._CONNECTION_LOST)) == "error"
    assert failure_class_of(RuntimeError(failure_watch._NO_REPORT)) == "error"


def test_one_of_several_processes_that_failed_is_gone_at_once(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr("sam2ft.jobs.job.os._exit", codes.append)
    several = {"RANK": "0", "WORLD_SIZE": "2"}
    for error, code in ((ZeroDivisionError(), 1), (DataError("no masks"), 2), (STOP, 143)):
        end(layout, monkeypatch, OUTSIDE | several, error)
        assert codes.pop() == code
    for error in (None, STOP):
        end(layout, monkeypatch, INSIDE | several, error)
    end(layout, monkeypatch, OUTSIDE, ZeroDivisionError())
    assert codes == [], "a job that saved takes its group down, a process alone has no others"


def test_only_rank_0_speaks_for_the_run(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ZeroDivisionError), record_ending(layout, RUN, Attempt.current(), StopFlag()):
        raise ZeroDivisionError
    assert not layout.folder.exists()


@pytest.mark.parametrize(
    ("error", "outside", "inside"),
    [
        (None, 0, 0),
        (UserError("wrong"), 2, 2),
        (IncompleteError("2 of 3"), 3, 3),
        (ClaimedError("now held by"), 1, 1),
        (STOP, 143, 75),
        (KeyboardInterrupt(), 130, 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_how_a_command_ends(monkeypatch: pytest.MonkeyPatch, error: Any, outside: int, inside: int) -> None:
    def main() -> None:
        if error is not None:
            raise error

    for environment, code in ((OUTSIDE, outside), (INSIDE, inside)):
        monkeypatch.delenv("SLURM_JOB_ID", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            run_command(main)
        assert ended.value.code == code
    assert sys.exc_info() == (None, None, None)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_run_that_cannot_write_its_state_either_says_so_once_and_ends_with_4(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def fails(*_: object, **changes: object) -> None:
        if changes["state"] == "failed":
            raise OSError(number, os.strerror(number), str(layout.status))

    monkeypatch.setattr("sam2ft.runs.attempt.ending.update_status", fails)
    error = OSError(number, os.strerror(number), "best.pt")
    assert end(layout, monkeypatch, INSIDE, error) == (4, ("starting", None, False))
    said = [line for line in capsys.readouterr().err.splitlines() if "what was there before stays" in line]
    assert len(said) == 1
    assert said[0].startswith("best.pt: ")


def test_a_run_whose_last_write_fails_is_not_done(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any, **changes: Any) -> None:
        if changes["state"] == "done":
            raise OSError(errno.ENOSPC, "No space left on device", str(layout.status))
        update_status(*given, **changes)

    monkeypatch.setattr("sam2ft.runs.attempt.ending.update_status", fails)
    assert end(layout, monkeypatch, INSIDE, None) == (4, DISK)
