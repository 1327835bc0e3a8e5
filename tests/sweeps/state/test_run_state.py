"""What a run's state is concluded from, with the words of a real Slurm (texts/)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sam2ft.slurm.accounting import parse_sacct
from sam2ft.slurm.queue import QueueEntry
from sam2ft.slurm.states import SlurmState
from sam2ft.sweeps.state.reconcile import reconcile, to_submit
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.submit.records import Record, RecordedArray, RecordedReport, RecordedRun, write_record

RUNNING = QueueEntry(SlurmState.RUNNING, "None", "n1")
WAITS = QueueEntry(SlurmState.PENDING, "Dependency", "", "aftercorr:17_*(unfulfilled)")
STUCK = QueueEntry(SlurmState.PENDING, "DependencyNeverSatisfied", "", "aftercorr:17_*(failed)")
BEGIN = QueueEntry(SlurmState.PENDING, "BeginTime", "")


def row(job, state, code="0:0", *, elapsed=10, nodes="n1", submit="21:00:00", end="21:10:00"):
    """A line of sacct: a job that ended (UTC) on a day long after every heartbeat of these tests' runs."""
    day = "2126-11-23T"
    return (
        f"{job}|{state}|{code}|{elapsed}|cpu=1,gres/gpu=1,node=1|{day}{submit}|{day}{submit}|{day}{end}|{nodes}|None|x"
    )


def never(job, state):
    """A line of sacct: a job that was removed before it got a node."""
    return row(job, state, elapsed=0, nodes="None assigned")


@pytest.fixture
def plan(workplace):
    return workplace.plan()


@pytest.fixture
def chain(workplace, plan):
    """chain(): the record of a training array 17 (or `train`) and its evaluations 18 over the two points."""

    def write(train="17", evaluation="18", number=1):
        runs = tuple(RecordedRun(run.index, run.run_id, run.eval_ids) for run in plan.runs[:2])
        arrays = [RecordedArray(f"{number}-t", "train", train, "", runs)] if train else []
        arrays.append(RecordedArray(f"{number}-e", "eval", evaluation, f"aftercorr:{train}", runs))
        record = Record(number, plan.plan_id, "here", "2026-01-01T00:00:00", tuple(arrays), RecordedReport("r", "19"))
        write_record(workplace.layout, record)

    write()
    return write


def first(workplace, plan, queue, *lines):
    """Where the first point stands; no accounting when there are no lines."""
    snapshot = SlurmSnapshot(queue, parse_sacct(lines) if lines else None)
    return reconcile(workplace.layout, plan, snapshot)[0]


def told(reconciled):
    return reconciled.state, reconciled.failure_class, reconciled.reason


def test_a_waiting_chain_is_queued_for_its_training(workplace, plan, chain):
    reconciled = first(workplace, plan, {"17_0": BEGIN, "18_0": WAITS})
    assert (reconciled.state, reconciled.job, reconciled.waits_for) == ("queued", "17_0", "training")
    assert reconciled.reason == "job 17_0 PENDING: BeginTime"
    assert [element.job for element in reconciled.jobs] == ["17_0", "18_0"]


def test_an_element_at_work_counts_before_one_that_waits(workplace, plan, chain):
    reconciled = first(workplace, plan, {"18_0": WAITS, "17_0": RUNNING})
    assert (reconciled.state, reconciled.job) == ("running", "17_0")


def test_a_trained_run_waits_for_its_evaluation(workplace, plan, chain, attempt):
    workplace.write_status(plan.runs[0], "done", attempt(job="17_0"), trained=True, best_sha256="b")
    reconciled = first(workplace, plan, {"18_0": WAITS}, row("17_0", "COMPLETED"))
    assert (reconciled.state, reconciled.job, reconciled.waits_for) == ("queued", "18_0", "evaluation")
    assert reconciled.reason.startswith("evaluation, job 18_0 PENDING")


@pytest.mark.parametrize("entry", [WAITS, STUCK])
def test_a_training_that_failed_leaves_its_evaluation_no_hope(workplace, plan, chain, attempt, entry):
    status = {"failure_class": "error", "reason": "ValueError: odd"}
    workplace.write_status(plan.runs[0], "failed", attempt(job="17_0"), **status)
    assert told(first(workplace, plan, {"18_0": entry}))[:2] == ("failed", "error")
    reconciled = first(workplace, plan, {"18_0": entry}, row("17_0", "FAILED", "1:0"))
    assert told(reconciled)[:2] == ("failed", "error")
    assert reconciled.reason == "ValueError: odd; job 18_0 waits for a dependency that can never be satisfied"


def test_an_evaluation_that_slurm_removed_leaves_the_reason_to_its_training(workplace, plan, chain):
    reconciled = first(workplace, plan, {}, row("17_0", "FAILED", "1:0"), never("18_0", "CANCELLED"))
    assert told(reconciled) == ("failed", "error", "job 17_0 ended with code 1 without reporting a status")
    assert reconciled.job == "17_0"


@pytest.mark.parametrize("code", ["137:0", "9:0", "0:9"])
def test_a_kill_is_out_of_memory_only_where_slurms_log_says_so(workplace, plan, chain, code):
    lines = [row("17_0", "FAILED", code), never("18_0", "CANCELLED")]
    assert told(first(workplace, plan, {}, *lines))[:2] == ("failed", "error")
    log = workplace.layout.submission(1).with_suffix("") / "17_0_0_log.out"
    log.parent.mkdir()
    log.write_text("srun: error: n3: task 0: Killed\nslurmstepd-n3: error: Exceeded job memory limit\n")
    state, failure_class, reason = told(first(workplace, plan, {}, *lines))
    assert (state, failure_class) == ("failed", "oom")
    assert reason == "job 17_0 used more memory than it requested and was killed"


def test_the_log_of_another_job_is_not_asked(workplace, plan, chain):
    log = workplace.layout.submission(1).with_suffix("") / "17_01_0_log.out"
    log.parent.mkdir()
    log.write_text("slurmstepd: error: Exceeded job memory limit\n")
    assert told(first(workplace, plan, {}, row("17_0", "FAILED", "137:0")))[1] == "error"


def test_a_worker_that_was_killed_makes_an_error_out_of_memory(workplace, plan, chain, attempt):
    status = {"failure_class": "error", "reason": "RuntimeError: DataLoader worker is killed by signal: Killed."}
    workplace.write_status(plan.runs[0], "failed", attempt(job="17_0"), **status)
    assert told(first(workplace, plan, {}, row("17_0", "OUT_OF_MEMORY", "0:125")))[:2] == ("failed", "oom")
    assert told(first(workplace, plan, {}, row("17_0", "FAILED", "1:0")))[:2] == ("failed", "error")
    log = workplace.layout.submission(1).with_suffix("") / "17_0_0_log.out"
    log.parent.mkdir()
    log.write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=17.0\n")
    assert told(first(workplace, plan, {}, row("17_0", "FAILED", "1:0")))[:2] == ("failed", "oom")


def test_the_time_limit_is_a_failure_unless_the_run_saved(workplace, plan, chain, attempt):
    workplace.write_status(plan.runs[0], "training", attempt(job="17_0"))
    limit = row("17_0", "TIMEOUT")
    assert told(first(workplace, plan, {}, limit))[:2] == ("failed", "timeout")
    workplace.write_status(plan.runs[0], "stopped", attempt(job="17_0"), reason="saved to continue")
    assert told(first(workplace, plan, {}, limit)) == ("stopped", None, "saved to continue")


def test_a_dead_node_is_lost_and_started_again(workplace, plan, chain, attempt):
    workplace.write_status(plan.runs[0], "training", attempt(job="17_0"))
    reconciled = first(workplace, plan, {}, row("17_0", "NODE_FAIL", nodes="n3"))
    assert told(reconciled) == ("lost", None, "job 17_0 lost its node (NODE_FAIL on n3)")
    assert to_submit([reconciled], retry=None, force=False) == (reconciled.run,)


def test_a_node_that_failed_and_a_job_that_waits_again_is_queued(workplace, plan, chain, attempt):
    workplace.write_status(plan.runs[0], "training", attempt(job="17_0"))
    lines = [row("17_0", "NODE_FAIL"), never("17_0", "PENDING").replace("T21:00", "T21:30")]
    assert first(workplace, plan, {"17_0": BEGIN}, *lines).state == "queued"


def test_a_cancelled_run_is_stopped_and_the_next_sweep_goes_on_with_it(workplace, plan, chain, attempt):
    workplace.write_status(plan.runs[0], "stopped", attempt(job="17_0"), reason="saved")
    reconciled = first(workplace, plan, {}, row("17_0", "CANCELLED by 0"), never("18_0", "CANCELLED by 0"))
    assert told(reconciled) == ("stopped", None, "job 17_0 was cancelled by root")
    assert to_submit([reconciled], retry=None, force=False) == (reconciled.run,)


def test_a_run_cancelled_on_its_last_restart_has_not_given_up(workplace, plan, chain, attempt):
    ended = {"failure_class": "no_progress", "reason": "2 restarts in a row"}
    workplace.write_status(plan.runs[0], "failed", attempt(job="17_0"), **ended)
    assert told(first(workplace, plan, {}, row("17_0", "CANCELLED by 0")))[:2] == ("stopped", None)
    assert told(first(workplace, plan, {}, row("17_0", "FAILED", "1:0")))[:2] == ("failed", "no_progress")


def test_accounting_that_is_behind_the_queue_leaves_the_last_word_of_the_newest_job(workplace, plan, chain, attempt):
    chain("27", "28", 2)
    behind = row("27_0", "RUNNING").replace("2126-11-23T21:10:00", "Unknown")
    lines = [row("17_0", "TIMEOUT"), never("18_0", "CANCELLED"), behind]
    workplace.write_status(plan.runs[0], "failed", attempt(job="17_0"), failure_class="timeout", reason="17")
    state, _, reason = told(first(workplace, plan, {}, *lines))
    assert state == "lost"
    assert reason == "job 27_0 left the queue without reporting a status; accounting still shows RUNNING"
    workplace.write_status(plan.runs[0], "stopped", attempt(job="27_0"), reason="saved")
    assert told(first(workplace, plan, {}, *lines)) == ("stopped", None, "saved")


def test_a_run_that_was_cancelled_in_the_queue_is_stopped_too(workplace, plan, chain):
    reconciled = first(workplace, plan, {}, never("17_0", "CANCELLED by 987654"), never("18_0", "CANCELLED"))
    assert told(reconciled) == ("stopped", None, "job 17_0 was cancelled by user 987654 before it started")


def test_a_retry_that_was_cancelled_in_the_queue_leaves_the_failure_before(workplace, plan, chain, attempt):
    chain("27", "28", 2)
    workplace.write_status(plan.runs[0], "failed", attempt(job="17_0"), failure_class="oom", reason="oom")
    lines = [row("17_0", "FAILED", "1:0"), never("27_0", "CANCELLED by 0"), never("28_0", "CANCELLED")]
    assert told(first(workplace, plan, {}, *lines)) == ("failed", "oom", "oom")


def test_an_evaluation_that_dies_without_a_word_is_a_failure_of_a_trained_run(workplace, plan, chain, attempt):
    workplace.write_status(plan.runs[0], "done", attempt(job="17_0"), trained=True, best_sha256="b")
    reconciled = first(workplace, plan, {}, row("17_0", "COMPLETED"), row("18_0", "FAILED", "0:9"))
    assert told(reconciled) == ("failed", "error", "job 18_0 was killed by signal 9 without reporting a status")


def test_what_ran_elsewhere_since_is_not_judged_by_an_old_job(workplace, plan, chain, attempt):
    later = (datetime(2126, 11, 24, tzinfo=UTC)).isoformat()
    workplace.write_status(plan.runs[0], "failed", attempt(), heartbeat=later, failure_class="error", reason="here")
    assert told(first(workplace, plan, {}, row("17_0", "TIMEOUT"))) == ("failed", "error", "here")


def test_an_attempt_that_never_spoke_is_judged_by_slurm(workplace, plan, chain, attempt):
    workplace.write_status(plan.runs[0], "stopped", attempt(job="17_0"), reason="saved")
    lines = [row("17_0", "REQUEUED"), row("17_0", "FAILED", "1:0", submit="21:20:00")]
    assert told(first(workplace, plan, {}, *lines))[:2] == ("failed", "error")


def test_a_job_that_slurm_calls_completed_says_nothing_about_a_run(workplace, plan, chain, attempt):
    silent = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    workplace.write_status(plan.runs[0], "training", attempt(job="17_0"), heartbeat=silent)
    assert first(workplace, plan, {}, row("17_0", "COMPLETED")).state == "lost"
    workplace.run(plan.runs[0]).status.unlink()
    state, _, reason = told(first(workplace, plan, {}, row("17_0", "COMPLETED")))
    assert state == "new"
    assert "was it removed?" in reason


def test_accounting_that_knows_nothing_leaves_the_heartbeat(workplace, plan, chain, attempt):
    workplace.write_status(plan.runs[0], "training", attempt(job="17_0"))
    reconciled = first(workplace, plan, {}, row("99", "COMPLETED"))
    assert (reconciled.state, reconciled.source) == ("running", "its heartbeat")


def test_a_heartbeat_from_the_future_is_no_sign_of_life(workplace, plan, chain, attempt):
    ahead = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    workplace.write_status(plan.runs[0], "training", attempt(job="17_0"), heartbeat=ahead)
    assert first(workplace, plan, {}).state == "lost"
    reconciled = first(workplace, plan, None)
    assert reconciled.state == "unknown"
    assert "one of two clocks is wrong" in reconciled.reason
    assert first(workplace, plan, {"17_0": RUNNING}).state == "running"


def test_a_job_at_work_that_is_silent_is_told(workplace, plan, chain, attempt):
    silent = (datetime.now(UTC) - timedelta(minutes=30)).isoformat()
    workplace.write_status(plan.runs[0], "training", attempt(job="17_0"), heartbeat=silent)
    reconciled = first(workplace, plan, {"17_0": RUNNING})
    assert (reconciled.state, reconciled.reason) == ("running", "no heartbeat for 30 min")


def test_a_damaged_status_is_the_reason_of_its_own_run_alone(workplace, plan, chain, attempt):
    workplace.run(plan.runs[0]).status.parent.mkdir(parents=True)
    workplace.run(plan.runs[0]).status.write_text('{"state": "trai')
    workplace.finish(plan.runs[1], attempt())
    damaged, done, _ = reconcile(workplace.layout, plan, SlurmSnapshot({}))
    assert (damaged.state, done.state) == ("unknown", "done")
    assert "status.json" in damaged.reason
    assert to_submit([damaged], retry=None, force=False) == ()
    assert first(workplace, plan, {"17_0": RUNNING}).state == "running"


def test_without_accounting_everything_is_as_before(workplace, plan, chain, attempt):
    assert told(first(workplace, plan, {})) == ("new", None, "job 17_0 left the queue before it started")
    workplace.write_status(plan.runs[0], "stopped", attempt(job="17_0"), reason="saved")
    assert told(first(workplace, plan, {})) == ("stopped", None, "saved")


def test_a_baseline_is_evaluated_only(workplace, plan):
    baseline = plan.runs[2]
    runs = (RecordedRun(baseline.index, baseline.run_id, baseline.eval_ids),)
    arrays = (RecordedArray("b", "eval", "30", "", runs),)
    write_record(workplace.layout, Record(1, plan.plan_id, "here", "", arrays, RecordedReport("r", None)))
    only = replace(plan, runs=(baseline,))
    assert told(first(workplace, only, {}, row("30", "FAILED", "1:0")))[:2] == ("failed", "error")
    reconciled = first(workplace, only, {"30": BEGIN})
    assert (reconciled.state, reconciled.reason) == ("queued", "job 30 PENDING: BeginTime")
    # Nobody cancelled it: what it waited for could not happen any more.
    assert told(first(workplace, only, {}, never("30", "CANCELLED")))[0] == "new"
    assert told(first(workplace, only, {}, never("30", "CANCELLED by 0")))[0] == "stopped"
