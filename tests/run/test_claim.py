import os
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sam2ft.core.errors import ClaimedError, DataError
from sam2ft.core.files import write_json
from sam2ft.core.layout import RunLayout
from sam2ft.run.claim import Attempt, check_claim, claim, holder
from sam2ft.run.status import RunStatus, heartbeat, read_status, update_status

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
