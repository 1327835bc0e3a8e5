import errno
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sam2ft.core.errors import ClaimedError, DataError
from sam2ft.core.files import write_json
from sam2ft.runs.attempt.claim import Attempt, check_claim, check_job, claim, holder
from sam2ft.runs.attempt.status import RunStatus, heartbeat, read_status, update_status
from sam2ft.runs.layout import RunLayout

ELSEWHERE = Attempt("17_3", 0, "node1", 4242, "2026-01-01T00:00:00+00:00")
DEAD_PID = 2**22 + 1


@pytest.fixture
def layout(tmp_path):
    return RunLayout(tmp_path / "toy-0123456789abcdef")


def test_an_attempt_is_named_after_its_job_and_restart():
    variables = {
        "SLURM_JOB_ID": "20",
        "SLURM_ARRAY_JOB_ID": "17",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_RESTART_COUNT": "2",
    }
    attempt = Attempt.current(variables)
    assert (attempt.job, attempt.restart, attempt.name) == ("17_3", 2, "17_3-2")
    assert Attempt.current({"SLURM_JOB_ID": "20"}).job == "20"
    assert Attempt.current({}).job == "local"


def test_a_requeued_attempt_takes_over_and_the_old_one_may_not_write(layout):
    claim(layout, ELSEWHERE)
    update_status(layout, ELSEWHERE, state="training", step=5)
    requeued = replace(ELSEWHERE, restart=1, host="node2", pid=99)
    claim(layout, requeued)
    assert holder(layout) == requeued
    for write in (lambda: check_claim(layout, ELSEWHERE), lambda: update_status(layout, ELSEWHERE, step=6)):
        with pytest.raises(ClaimedError, match=r"now held by job 17_3 \(restart 1, node2"):
            write()
    assert read_status(layout).step == 5


def test_the_old_script_of_a_requeued_job_cannot_claim_again(layout):
    claim(layout, replace(ELSEWHERE, restart=1))
    with pytest.raises(ClaimedError, match="has taken over"):
        claim(layout, ELSEWHERE)


def test_a_living_local_process_is_not_pushed_aside_but_a_dead_one_is(layout):
    here = Attempt("local", 0, socket.gethostname(), os.getppid(), "2026-01-01T00:00:00+00:00")
    mine = replace(here, pid=os.getpid())
    claim(layout, here)
    with pytest.raises(ClaimedError, match="is working on it"):
        claim(layout, mine)
    claim(RunLayout(layout.folder / "other"), replace(here, pid=DEAD_PID))
    claim(RunLayout(layout.folder / "other"), mine)
    assert holder(RunLayout(layout.folder / "other")) == mine


def test_of_two_jobs_whoever_claims_last_holds_the_run(layout):
    """No clock decides: the one that began earlier by its own clock may be the newer one."""
    other = replace(ELSEWHERE, job="18", host="node2", started="2020-01-01T00:00:00+00:00")
    claim(layout, ELSEWHERE)
    claim(layout, other)
    check_claim(layout, other)
    with pytest.raises(ClaimedError, match=r"now held by job 18 \(restart 0, node2"):
        check_claim(layout, ELSEWHERE)
    requeued = replace(ELSEWHERE, restart=1)
    claim(layout, requeued)
    with pytest.raises(ClaimedError):
        check_claim(layout, other)
    check_job(layout, replace(requeued, pid=7, host="node3"))


def test_an_older_restart_does_not_come_back_behind_another_job(layout):
    """Its first attempt hung in its imports on a dead node while it was requeued, and another job came."""
    claim(layout, replace(ELSEWHERE, restart=1))
    claim(layout, other := replace(ELSEWHERE, job="18"))
    with pytest.raises(ClaimedError, match="a later restart has taken over from job 17_3"):
        claim(layout, ELSEWHERE)
    assert holder(layout) == other


def test_two_processes_of_one_allocation_do_not_push_each_other_aside(layout):
    here = replace(ELSEWHERE, host=socket.gethostname(), pid=os.getppid())
    claim(layout, here)
    with pytest.raises(ClaimedError, match="is working on it"):
        claim(layout, replace(here, pid=os.getpid()))


def test_a_pid_that_belongs_to_another_process_by_now_is_dead(layout):
    """After a reboot the pid of a killed run may be anybody's: it must not hold the run for ever."""
    now = Attempt.current({})
    assert now.birth
    assert now.is_alive_here()
    before_the_reboot = replace(now, birth="another boot:17")
    assert before_the_reboot.is_dead()
    assert not replace(now, birth="").is_dead(), "of an older version: the pid is all that is known"
    claim(layout, replace(before_the_reboot, pid=os.getppid()))
    claim(layout, now)
    assert holder(layout) == now


def test_a_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 60
    while not replace(Attempt.current({}), pid=child.pid, birth="").is_dead():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert child.wait() == 0


def test_a_claim_of_an_older_version_is_read(layout):
    old = {name: value for name, value in ELSEWHERE.to_json().items() if name != "birth"}
    write_json(layout.claim, old)
    assert holder(layout) == ELSEWHERE
    claim(layout, replace(ELSEWHERE, restart=1))


def test_an_update_keeps_what_it_does_not_name(layout):
    claim(layout, ELSEWHERE)
    update_status(layout, ELSEWHERE, state="training", epoch=3, best_value=0.25, monitor="val_loss")
    update_status(layout, ELSEWHERE, state="evaluating")
    status = read_status(layout)
    assert (status.state, status.epoch, status.best_value, status.monitor) == ("evaluating", 3, 0.25, "val_loss")
    assert RunStatus.from_json(status.to_json()) == status
    assert status.to_json()["class"] is None


def test_silence_is_counted_from_the_last_heartbeat(layout):
    claim(layout, ELSEWHERE)
    status = update_status(layout, ELSEWHERE)
    later = datetime.fromisoformat(status.heartbeat) + timedelta(seconds=90)
    assert status.silence_s(later) == 90
    assert abs(status.silence_s(datetime.now(UTC))) < 5


def test_the_heart_beats_while_the_work_is_silent_and_stops_with_it(layout):
    claim(layout, ELSEWHERE)
    write_json(layout.status, RunStatus("training", ELSEWHERE, "2020-01-01T00:00:00+00:00").to_json())
    with heartbeat(layout, ELSEWHERE, every_s=0.01):
        deadline = time.monotonic() + 60
        while read_status(layout).silence_s() > 60:
            assert time.monotonic() < deadline, "no heartbeat"
            time.sleep(0.01)
    write_json(layout.status, RunStatus("training", ELSEWHERE, "2020-01-01T00:00:00+00:00").to_json())
    assert read_status(layout).silence_s() > 60


def test_the_heart_beats_on_after_a_full_disk(layout, monkeypatch):
    claim(layout, ELSEWHERE)
    old = RunStatus("training", ELSEWHERE, "2020-01-01T00:00:00+00:00").to_json()
    write_json(layout.status, old)
    refused = threading.Event()

    def full(path, value):
        refused.set()
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with heartbeat(layout, ELSEWHERE, every_s=0.01):
        with monkeypatch.context() as patch:
            patch.setattr("sam2ft.runs.attempt.status.write_sealed_json", full)
            assert refused.wait(60)
        write_json(layout.status, old)
        deadline = time.monotonic() + 60
        while read_status(layout).silence_s() > 60:
            assert time.monotonic() < deadline, "no heartbeat"
            time.sleep(0.01)


def test_the_heart_of_a_replaced_attempt_does_not_write(layout):
    claim(layout, ELSEWHERE)
    update_status(layout, ELSEWHERE, state="training")
    with heartbeat(layout, ELSEWHERE, every_s=0.01):
        newer = replace(ELSEWHERE, restart=1)
        claim(layout, newer)
        update_status(layout, newer, state="starting")
    assert read_status(layout).attempt == newer


def test_a_status_that_is_not_ours_is_named(layout):
    write_json(layout.status, {"state": "sleeping"})
    with pytest.raises(DataError, match=r"status\.json: not the status of a run"):
        read_status(layout)
