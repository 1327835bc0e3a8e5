"""The table and its sisters: watch, tail, why, cancel."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from sam2ft.core.errors import DataError, UserError
from sam2ft.core.files import write_json, write_text
from sam2ft.report.terminal import terminal_text
from sam2ft.runs.plan_file import save_plan
from sam2ft.runs.states import State
from sam2ft.slurm.accounting import parse_sacct
from sam2ft.slurm.queue import QueueEntry
from sam2ft.slurm.states import SlurmState
from sam2ft.sweeps.state import reconcile as reconcile_module
from sam2ft.sweeps.state.reconcile import reconcile
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.status import cancel as cancel_module
from sam2ft.sweeps.status import watch as watch_module
from sam2ft.sweeps.status.cancel import cancel
from sam2ft.sweeps.status.select_run import find_run
from sam2ft.sweeps.status.table import (
    MOST_ROWS,
    duration,
    eta_s,
    footer,
    plain_table,
    show_status,
    status_page,
    status_rows,
)
from sam2ft.sweeps.status.tail import show_tail
from sam2ft.sweeps.status.watch import LEAST_S, MOST_S, SnapshotCache, watch
from sam2ft.sweeps.status.why import explanation, show_why
from sam2ft.sweeps.submit import records as records_module
from sam2ft.sweeps.submit.records import Record, RecordedArray, RecordedReport, RecordedRun, write_record

ROOT = Path(__file__).parents[3]
RUNNING = QueueEntry(SlurmState.RUNNING, "None", "n1")
WAITS = QueueEntry(SlurmState.PENDING, "Dependency", "", "aftercorr:17_*(unfulfilled)")
EMPTY = SlurmSnapshot({})


@pytest.fixture
def plan(workplace):
    plan = workplace.plan()
    save_plan(workplace.layout, plan)
    return plan


@pytest.fixture
def chain(workplace, plan):
    """A training array 17 and its evaluations 18 over the two points."""
    runs = tuple(RecordedRun(run.index, run.run_id, run.eval_ids) for run in plan.runs[:2])
    arrays = (RecordedArray("t", "train", "17", "", runs), RecordedArray("e", "eval", "18", "aftercorr:17", runs))
    write_record(workplace.layout, Record(1, plan.plan_id, "here", "", arrays, RecordedReport("r", "19")))


def rows_of(workplace, plan, snapshot=EMPTY):
    return status_rows(workplace.layout, reconcile(workplace.layout, plan, snapshot), snapshot)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """programs(squeue="...", sacct="..."): shell lines that stand for Slurm's programs; each notes its arguments."""
    folder = tmp_path / "programs"
    folder.mkdir()

    def write(**lines):
        for name, text in {"sbatch": "", "scancel": "", "sacct": "exit 1", "squeue": ""}.items():
            program = folder / name
            program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/{name}.asked\n{lines.get(name, text)}\n')
            program.chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin")

        def asked(name):
            path = folder / f"{name}.asked"
            return path.read_text().splitlines() if path.is_file() else []

        return asked

    return write


# --- the table --------------------------------------------------------------------------------------------------------


def test_a_training_says_when_it_ends_at_the_latest(workplace, plan, attempt):
    run = plan.runs[0]
    # Two epochs of 10 steps and 100 s, validation included; 5 steps into the third of four.
    history = "epoch,step,improved,seconds,val_loss\n0,10,1,140.0,1\n1,20,1,100.0,1\n2,30,0,100.0,1\n"
    write_text(workplace.run(run).history, history)
    values = {"epoch": 2, "num_epochs": 5, "step": 35, "best_value": 0.25, "monitor": "val_loss", "step_s": 9.0}
    workplace.write_status(run, "training", attempt(), **values)
    row = rows_of(workplace, plan)[0]
    assert row["eta_s"] == pytest.approx(1.5 * 100)
    text = plain_table([row])
    assert "3/5" in text
    assert "0.2500" in text
    assert "at most 2 min" in text
    workplace.write_status(run, "evaluating", attempt(), **values)
    assert rows_of(workplace, plan)[0]["eta_s"] is None


def test_nobody_knows_the_end_before_the_first_epoch_ended(workplace, plan, attempt):
    workplace.write_status(plan.runs[0], "training", attempt(), num_epochs=5, step=3, step_s=1.0)
    reconciled = reconcile(workplace.layout, plan, SlurmSnapshot({}))[0]
    assert eta_s(workplace.layout, reconciled) is None


def test_durations_are_words():
    assert [duration(value) for value in (5, 300, 11_100, 190_000)] == ["5 s", "5 min", "3 h 05 min", "2 d 4 h"]


def test_restarts_hours_and_node_come_from_slurm_where_the_run_has_not_spoken(workplace, plan, chain, attempt):
    # What it said in the local pool last week is about another attempt.
    workplace.write_status(plan.runs[0], "stopped", attempt())
    day = "2026-11-23T21:"
    lines = [
        f"17_0|NODE_FAIL|0:0|1800|cpu=1,gres/gpu=2|{day}00:00|{day}00:00|{day}30:00|n3|None|x",
        f"17_0|RUNNING|0:0|900|cpu=1,gres/gpu=2|{day}30:00|{day}30:00|Unknown|n1|None|x",
    ]
    row = rows_of(workplace, plan, SlurmSnapshot({"17_0": RUNNING, "18_0": WAITS}, parse_sacct(lines)))[0]
    assert (row["state"], row["stage"], row["restarts"]) == ("running", "starting", 1)
    assert (row["nodes"], row["host"]) == ("n1", None)
    assert row["gpu_hours"] == pytest.approx(1.5)
    assert row["jobs"][1] == {"job": "18_0", "stage": "eval", "submission": 1}
    assert "1.5 GPU-hours so far" in footer([row], SlurmSnapshot({}))


def test_a_job_after_the_last_word_of_its_run_is_ending(workplace, plan, chain, attempt):
    workplace.write_status(plan.runs[0], "stopped", attempt(job="17_0"))
    snapshot = SlurmSnapshot({"17_0": replace(RUNNING, state=SlurmState("COMPLETING"))})
    assert rows_of(workplace, plan, snapshot)[0]["stage"] == "ending"


def test_a_failure_shows_its_class_and_the_last_line_of_its_log(workplace, plan, chain):
    log = workplace.layout.submission(1).with_suffix("") / "17_0_0_log.out"
    write_text(log, "Traceback\nImportError: no module named torch\n\n")
    line = "17_0|FAILED|1:0|1|cpu=1|2026-11-23T21:00:00|2026-11-23T21:00:00|2026-11-23T21:00:01|n1|None|x"
    rows = rows_of(workplace, plan, SlurmSnapshot({}, parse_sacct([line])))
    text = plain_table(rows)
    assert "failed (error)" in text
    assert "job 17_0 ended with code 1 without reporting a status: ImportError: no module named torch" in text
    assert "1 failed (1 error)" in footer(rows, SlurmSnapshot({}))


def test_stale_code_is_marked(workplace, plan, attempt):
    workplace.finish(plan.runs[0], attempt())
    reconciled_runs = reconcile(workplace.layout, plan, SlurmSnapshot({}))
    rows = status_rows(workplace.layout, reconciled_runs, stale={plan.runs[0].name})
    assert [row["stale_code"] for row in rows] == [True, False, False]
    assert "done, stale code" in plain_table(rows)


def test_control_characters_of_a_reason_stay_off_the_terminal(workplace, plan, attempt):
    workplace.write_status(plan.runs[0], "failed", attempt(), reason="odd \x1b[2J text", failure_class="error")
    assert "\x1b" not in plain_table(rows_of(workplace, plan))


def test_a_terminal_gets_those_runs_of_very_many_that_need_somebody(workplace, plan, attempt):
    row = rows_of(workplace, plan)[0]
    many = [row | {"index": index, "name": f"p{index}", "state": State.DONE} for index in range(MOST_ROWS + 50)]
    many[-1] |= {"state": State.FAILED, "class": "oom"}
    text = terminal_text(status_page(many, many, SlurmSnapshot({})))
    assert f"p{MOST_ROWS + 49} " in text
    assert "50 more runs not shown" in text
    assert f"{MOST_ROWS + 50} runs: {MOST_ROWS + 49} done, 1 failed (1 oom)" in text


@pytest.mark.slow
def test_of_ten_thousand_runs_each_status_is_read_once_and_slurm_is_asked_once(
    workplace, plan, attempt, programs, monkeypatch, capsys
):
    many = replace(
        plan, runs=tuple(replace(plan.runs[0], index=index, run_id=f"toy-{index:016x}") for index in range(10_000))
    )
    save_plan(workplace.layout, many)
    os.utime(workplace.layout.plan(many.plan_id), (2e9, 2e9))
    status = {"state": "done", "attempt": attempt(job="17_0").to_json(), "heartbeat": attempt().started}
    text = json.dumps(status | {"trained": True, "best_sha256": "b"})
    for run in many.runs[:5000]:
        # Not whole-or-not-at-all: 10,000 fsyncs take longer than this test may.
        workplace.run(run).folder.mkdir(parents=True)
        workplace.run(run).status.write_text(text)
    runs = tuple(RecordedRun(run.index, run.run_id, run.eval_ids) for run in many.runs)
    arrays = (RecordedArray("t", "train", "17", "", runs), RecordedArray("e", "eval", "18", "aftercorr:17", runs))
    write_record(workplace.layout, Record(1, many.plan_id, "here", "", arrays, RecordedReport("r", "19")))
    answers = workplace.folder / "answers"
    answers.mkdir()
    (answers / "squeue").write_text("".join(f"18_{index}|PENDING|Priority||(null)|N/A\n" for index in range(10_000)))
    times = "2026-11-23T21:00:00|2026-11-23T21:00:00|2026-11-23T21:10:00"
    (answers / "sacct").write_text(
        "".join(f"17_{index}|COMPLETED|0:0|600|cpu=1,gres/gpu=1|{times}|n1|None|t\n" for index in range(10_000))
    )
    asked = programs(squeue=f"cat {answers}/squeue", sacct=f"cat {answers}/sacct")
    reads = []
    for module, name in ((reconcile_module, "read_status"), (records_module, "read_record")):
        reads.append(Mock(wraps=getattr(module, name)))
        monkeypatch.setattr(module, name, reads[-1])
    started = time.process_time()
    show_status(workplace.layout.folder)
    took_s = time.process_time() - started
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "10000 runs: 10000 queued; 1666.7 GPU-hours so far"
    assert len(lines) == 10_002
    assert [len(asked(name)) for name in ("squeue", "sacct")] == [1, 1]
    # The one record of submissions is read for the job ids and again for the runs.
    assert [read.call_count for read in reads] == [10_000, 2]
    # 2 to 4 s: whatever is quadratic in the runs takes minutes.
    assert took_s < 60


def test_odd_folders_are_answered_with_a_message(workplace, capsys):
    with pytest.raises(DataError, match="no such file or folder"):
        show_status(workplace.folder / "nothing.yaml")
    with pytest.raises(DataError, match=r"no plan here; run launch/sweep\.py first"):
        show_status(workplace.experiment)
    write_json(workplace.layout.plan("0" * 12), {"version": 1, "runs": []})
    with pytest.raises(DataError, match=r"plan of version 1.*launch/sweep\.py makes a new one"):
        show_status(workplace.experiment)


# --- one run ----------------------------------------------------------------------------------------------------------


def test_a_run_is_named_by_index_name_id_hash_or_part(plan):
    run = plan.runs[1]
    for text in ("1", "lr=0.0001", run.run_id, run.run_id[:-4], run.run_id.rpartition("-")[2][:6], "0.0001"):
        assert find_run(plan.runs, text) is run
    longer = replace(run, points=(replace(run.points[0], name="lr=0.001,wd=1"),))
    assert find_run((longer, plan.runs[0]), "lr=0.001") is plan.runs[0]
    with pytest.raises(
        UserError, match=r"'lr=' matches 2 runs; give more of it, or the index: 0 lr=0\.001, 1 lr=0\.0001"
    ):
        find_run(plan.runs, "lr=")
    with pytest.raises(UserError, match=r"no run '7'; known: 0 lr=0\.001"):
        find_run(plan.runs, "7")


def test_tail_shows_the_newest_log_that_says_anything(workplace, plan, capsys):
    with pytest.raises(DataError, match=r"lr=0\.001: no log yet"):
        show_tail(workplace.experiment, "0")
    logs = workplace.run(plan.runs[0]).logs
    for age, name in enumerate(("17_0-0", "17_0-1", "17_0-2")):
        write_text(logs / f"{name}.log", "" if age == 2 else "".join(f"{name} line {count}\n" for count in range(30)))
        os.utime(logs / f"{name}.log", (1e9 + age, 1e9 + age))
    show_tail(workplace.experiment, "0", lines=2)
    told = capsys.readouterr()
    assert told.out == "17_0-1 line 28\n17_0-1 line 29\n"
    assert told.err.strip().endswith("17_0-1.log")


def test_follow_goes_on_with_what_is_added_and_with_the_next_attempt(workplace, plan, attempt, monkeypatch, capsys):
    from sam2ft.sweeps.status import tail

    run, logs = plan.runs[0], workplace.run(plan.runs[0]).logs
    write_text(logs / "a.log", "one\n")
    os.utime(logs / "a.log", (1e9, 1e9))
    workplace.write_status(run, "training", attempt())

    def then(_seconds):
        step = len(waits)
        waits.append(step)
        if step == 0:
            with (logs / "a.log").open("a") as stream:
                stream.write("two\n")
        elif step == 1:
            write_text(logs / "b.log", "three\n")
            workplace.write_status(run, "stopped", attempt())

    waits = []
    monkeypatch.setattr(tail, "time", SimpleNamespace(sleep=then))
    show_tail(workplace.experiment, "0", follow=True)
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_why_tells_state_queue_dependency_accounting_log_and_what_to_do(workplace, plan, chain, attempt):
    workplace.write_status(plan.runs[0], "training", attempt(job="17_0"), epoch=1, num_epochs=4, step=20)
    write_text(workplace.run(plan.runs[0]).logs / "17_0-0.log", "Traceback\nValueError: odd\n")
    lines = [
        "17_0|TIMEOUT|0:0|3600|cpu=1,gres/gpu=2|2126-01-01T00:00:00|2126-01-01T00:00:00|2126-01-01T01:00:00|n1|None|x",
        "18_0|CANCELLED|0:0|0||2126-01-01T00:00:00|None|2126-01-01T01:00:00|None assigned|Dependency|y",
    ]
    snapshot = SlurmSnapshot({"18_1": WAITS}, parse_sacct(lines))
    failed, waiting, _ = reconcile(workplace.layout, plan, snapshot)
    text = "\n".join(explanation(workplace.layout, failed, snapshot))
    for part in (
        "state       failed (timeout)",
        "known from  accounting: job 17_0 TIMEOUT 0:0",
        "status.json training, epoch 2 of 4, step 20",
        "accounting: TIMEOUT 0:0, 1 h 00 min elapsed, 2.00 GPU-hours",
        "SLURM removed it: the training it waited for did not end successfully",
        "  | ValueError: odd",
        "next        more time (resources.hours)",
    ):
        assert part in text
    text = "\n".join(explanation(workplace.layout, waiting, snapshot))
    assert "Dependency: waits for other jobs" in text
    assert "waits for aftercorr:17_*(unfulfilled)" in text


def test_why_of_every_state_says_what_to_do(workplace, plan, capsys):
    show_why(workplace.experiment, "2")
    assert "next        `make sweep` starts it" in capsys.readouterr().out


# --- cancel -----------------------------------------------------------------------------------------------------------

QUEUE = """cat <<END
17_0|RUNNING|None|n1|(null)|N/A
18_0|PENDING|Dependency||x|N/A
17_1|PENDING|Priority||x|N/A
99|RUNNING|None|n2||
END"""


def test_cancel_takes_the_jobs_of_one_run_and_nothing_else(workplace, plan, chain, programs, capsys):
    asked = programs(squeue=QUEUE)
    cancel(workplace.experiment, "0")
    assert asked("scancel") == ["17_0 18_0"]
    assert capsys.readouterr().out.splitlines() == [
        "cancelled lr=0.001: job 17_0 (training, RUNNING)",
        "cancelled lr=0.001: job 18_0 (evaluation, PENDING)",
    ]


def test_cancel_of_everything_wants_a_yes(workplace, plan, chain, programs):
    asked = programs(squeue=QUEUE)
    with pytest.raises(UserError, match="3 jobs and 0 local processes would be cancelled; add --yes"):
        cancel(workplace.experiment)
    assert asked("scancel") == []
    cancel(workplace.experiment, yes=True)
    assert asked("scancel") == ["17_0 17_1 18_0"]


def test_cancel_where_slurm_refuses_or_does_not_answer_says_so(workplace, plan, chain, programs):
    programs(squeue=QUEUE, scancel="echo 'scancel: error: Access denied' >&2; exit 1")
    with pytest.raises(UserError, match=r"scancel refused: .*Access denied"):
        cancel(workplace.experiment, "0")
    programs(squeue="exit 1")
    with pytest.raises(UserError, match="queue does not answer here"):
        cancel(workplace.experiment, "0")


def test_cancel_of_nothing_says_so(workplace, plan, programs, capsys):
    programs()
    assert cancel(workplace.experiment) == 0
    assert "nothing to cancel" in capsys.readouterr().out


def test_cancel_tells_a_local_process_to_stop_and_leaves_strangers_alone(workplace, plan, attempt, capsys):
    # -m sam2ft.x in its command line: what a process of ours looks like.
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)", "-m", "sam2ft.jobs.job"])
    try:
        here = socket.gethostname()
        workplace.write_status(plan.runs[0], "training", attempt(host=here, pid=child.pid))
        cancel(workplace.experiment, "0")
        assert child.wait(10) == -signal.SIGTERM
        assert f"asked process {child.pid} to save and stop" in capsys.readouterr().out
    finally:
        child.kill()
    stranger = subprocess.Popen(["/bin/sleep", "60"])
    try:
        workplace.write_status(plan.runs[0], "training", attempt(host=here, pid=stranger.pid))
        cancel(workplace.experiment, "0")
        assert f"process {stranger.pid} has ended" in capsys.readouterr().out
        assert stranger.poll() is None
    finally:
        stranger.kill()
    workplace.write_status(plan.runs[0], "training", attempt(host="elsewhere", pid=1))
    cancel(workplace.experiment, "0")
    assert "runs on elsewhere (process 1); cancel it on that host" in capsys.readouterr().out


def test_cancel_of_everything_stops_the_pool_not_only_its_children(workplace, plan, attempt, monkeypatch, capsys):
    told = []
    monkeypatch.setattr(cancel_module.os, "kill", lambda pid, number: told.append((pid, number)))
    monkeypatch.setattr(cancel_module, "_parent", lambda pid: 4000)
    commands = {4000: "python launch/sweep.py toy.yaml --local 2", 5001: "python -m sam2ft.jobs.job", 5002: "sam2ft"}
    monkeypatch.setattr(cancel_module, "_command", commands.__getitem__)
    monkeypatch.setattr("sam2ft.runs.attempt.claim._alive", lambda *_: True)
    for run, pid in zip(plan.runs, (5001, 5002), strict=False):
        workplace.write_status(run, "training", attempt(host=socket.gethostname(), pid=pid))
    cancel(workplace.experiment, "0")
    assert told == [(5001, signal.SIGTERM)]
    assert "its pool continues with the next point" in capsys.readouterr().out
    cancel(workplace.experiment, yes=True)
    assert told[1:] == [(4000, signal.SIGTERM)]


# --- watch ------------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_slurm_is_asked_every_ten_seconds_at_most_and_less_where_nothing_changes():
    clock, asked = Clock(), []
    answers = {"17_0": RUNNING}

    def ask():
        asked.append(clock.now)
        return SlurmSnapshot(dict(answers))

    cache = SnapshotCache(ask, clock)
    for _ in range(600):
        cache.look()
        clock.now += 1
    gaps = [later - sooner for sooner, later in pairwise(asked)]
    assert gaps[0] == LEAST_S
    assert gaps == sorted(gaps)
    assert max(gaps) <= MOST_S + 1
    assert len(asked) < 15
    answers.clear()
    clock.now += MOST_S
    before = len(asked)
    cache.look()
    clock.now += LEAST_S
    cache.look()
    assert len(asked) == before + 2


def test_a_slow_slurm_is_asked_rarely():
    clock, asked = Clock(), []

    def ask():
        asked.append(clock.now)
        clock.now += 4
        return SlurmSnapshot({str(len(asked)): RUNNING})

    cache = SnapshotCache(ask, clock)
    for _ in range(200):
        cache.look()
        clock.now += 1
    assert min(later - sooner for sooner, later in pairwise(asked)) >= 80


def test_watch_ends_by_itself_when_nothing_runs_or_waits(
    workplace, plan, chain, attempt, programs, monkeypatch, capsys
):
    programs(squeue="echo '17_0|RUNNING|None|n1|(null)|N/A'")
    naps, clock = [], Clock()

    def nap(seconds):
        naps.append(seconds)
        clock.now += 60
        if len(naps) == 2:
            programs(squeue="")
            for run in plan.runs:
                workplace.finish(run, attempt())

    monkeypatch.setattr(watch_module, "time", SimpleNamespace(sleep=nap, strftime=time.strftime))
    monkeypatch.setattr(watch_module, "SnapshotCache", lambda ask: SnapshotCache(ask, clock))
    assert watch(workplace.experiment, 2.5) == 0
    assert naps == [2.5, 2.5]
    lines = [line.partition("  ")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["3 runs: 2 new, 1 running", "3 runs: 3 done"]


# --- the command ------------------------------------------------------------------------------------------------------


def command(workplace, *arguments):
    line = [sys.executable, str(ROOT / "launch" / "status.py"), *arguments]
    return subprocess.run(line, cwd=workplace.folder, capture_output=True, text=True, check=False)


def test_options_may_stand_between_the_words(workplace, plan, programs):
    programs()
    done = command(workplace, "--json", "toy.yaml")
    assert [row["state"] for row in json.loads(done.stdout)] == ["new"] * 3
    done = command(workplace, "toy.yaml", "--yes", "cancel")
    assert (done.returncode, done.stdout.startswith("nothing to cancel")) == (0, True)
    done = command(workplace, "toy.yaml", "why", "1")
    assert done.stdout.startswith("lr=0.0001  (index 1")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("toy.yaml", "why"), "why: argument missing; why RUN"),
        (("toy.yaml", "throttle", "many"), "throttle 'many'; allowed: a whole number from 1"),
        (("toy.yaml", "why", "9"), "no run '9'"),
        (("toy.yaml", "--watch", "0"), "--watch takes seconds above 0"),
    ],
)
def test_what_makes_no_sense_is_a_message_and_2(workplace, plan, programs, arguments, told):
    programs()
    done = command(workplace, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
