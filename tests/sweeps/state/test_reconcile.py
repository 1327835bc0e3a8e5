import os
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.errors import DataError
from sam2ft.core.files import write_json
from sam2ft.runs.plan_file import load_plan, save_plan
from sam2ft.slurm.queue import QueueEntry
from sam2ft.slurm.states import SlurmState
from sam2ft.sweeps.plan.plan import make_plan, write_configs
from sam2ft.sweeps.state.reconcile import ReconciledRun, reconcile, sentence, to_submit
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot

RUNNING = QueueEntry(SlurmState.RUNNING, "None", "n1")
PENDING = QueueEntry(SlurmState.PENDING, "Resources", "")
DEAD_PID = 2**22 + 1


def states(reconciled_runs):
    return [reconciled.state for reconciled in reconciled_runs]


def submitted(workplace, plan, job):
    """The record of a submission of all runs of `plan` as one array."""
    runs = [{"index": run.index, "run_id": run.run_id} for run in plan.runs]
    array = {"job_name": "toy", "stage": "train_eval", "job": job, "runs": runs}
    value = {"number": 1, "plan": plan.plan_id, "site": "here", "time": "", "arrays": [array], "aggregate": None}
    write_json(workplace.layout.submission(1), value)


def test_a_plan_is_named_by_its_content(workplace):
    assert workplace.plan().plan_id == workplace.plan().plan_id
    assert workplace.plan().plan_id != workplace.plan(["module.num_epochs=3"]).plan_id
    assert len(workplace.plan().plan_id) == 12


def test_a_plan_reads_back_equal_and_a_changed_one_is_refused(workplace):
    plan = workplace.plan()
    path = save_plan(workplace.layout, plan)
    assert load_plan(workplace.layout, plan.plan_id) == plan
    path.write_text(path.read_text().replace('"index": 1', '"index": 7'))
    with pytest.raises(DataError, match=r"edited after it was written.*plan again"):
        load_plan(workplace.layout, plan.plan_id)


def test_two_points_and_the_baseline_are_three_runs(workplace):
    plan = workplace.plan()
    assert [run.name for run in plan.runs] == ["lr=0.001", "lr=0.0001", "baseline"]
    assert [run.stage for run in plan.runs] == ["train_eval", "train_eval", "eval"]
    assert [run.index for run in plan.runs] == [0, 1, 2]


def test_what_nobody_started_is_new_and_submitted(workplace):
    plan = workplace.plan()
    reconciled_runs = reconcile(workplace.layout, plan, SlurmSnapshot({}))
    assert states(reconciled_runs) == ["new", "new", "new"]
    assert to_submit(reconciled_runs, retry=None, force=False) == plan.runs
    assert sentence(reconciled_runs, 3) == "3 to submit: 0 done, 0 running, 0 failed, 3 new"


def test_a_finished_experiment_has_nothing_to_submit(workplace, attempt):
    plan = workplace.plan()
    for run in plan.runs:
        workplace.finish(run, attempt())
    reconciled_runs = reconcile(workplace.layout, plan, SlurmSnapshot(None))
    runs = to_submit(reconciled_runs, retry="all", force=False)
    assert sentence(reconciled_runs, len(runs)) == "0 to submit: 3 done, 0 running, 0 failed"


def test_an_evaluation_of_other_weights_than_the_run_holds_is_done_again(workplace, attempt):
    plan = workplace.plan()
    run = plan.runs[0]
    workplace.finish(run, attempt())
    write_json(workplace.run(run).evaluation(run.eval_ids[0]).success, {"checkpoint_sha256": "other", "tables": {}})
    reconciled = reconcile(workplace.layout, plan, SlurmSnapshot({}))[0]
    assert (reconciled.state, reconciled.reason) == ("new", "evaluation is missing or stale")


def test_a_failed_run_waits_for_retry(workplace, attempt):
    plan = workplace.plan()
    workplace.write_status(plan.runs[0], "failed", attempt(), failure_class="oom", reason="OutOfMemoryError: 12 GB")
    reconciled_runs = reconcile(workplace.layout, plan, SlurmSnapshot({}))
    assert reconciled_runs[0].state == "failed"
    names = {
        retry: [run.name for run in to_submit(reconciled_runs, retry=retry, force=False)]
        for retry in (None, "failed", "oom", "timeout", "all")
    }
    others = ["lr=0.0001", "baseline"]
    assert names[None] == names["timeout"] == others
    assert names["failed"] == names["oom"] == names["all"] == ["lr=0.001", *others]


def test_a_run_whose_file_system_failed_goes_on_without_retry(workplace, attempt):
    plan = workplace.plan()
    workplace.write_status(plan.runs[0], "failed", attempt(), failure_class="disk", reason="DiskError: best.pt: full")
    reconciled_runs = reconcile(workplace.layout, plan, SlurmSnapshot({}))
    assert (reconciled_runs[0].state, reconciled_runs[0].failure_class) == ("failed", "disk")
    for retry in (None, "disk", "all"):
        assert next(run.name for run in to_submit(reconciled_runs, retry=retry, force=False)) == "lr=0.001"


def test_the_queue_says_queued_and_running(workplace):
    plan = workplace.plan()
    submitted(workplace, plan, "17")
    reconciled_runs = reconcile(workplace.layout, plan, SlurmSnapshot({"17_0": RUNNING, "17_1": PENDING}))
    assert states(reconciled_runs) == ["running", "queued", "new"]
    assert reconciled_runs[1].reason == "job 17_1 PENDING: Resources"
    assert "left the queue" in reconciled_runs[2].reason
    assert [run.name for run in to_submit(reconciled_runs, retry="all", force=True)] == ["baseline"]


def test_a_submission_of_one_run_is_no_array(workplace):
    plan = workplace.plan()
    submitted(workplace, replace(plan, runs=plan.runs[:1]), "17")
    assert states(reconcile(workplace.layout, plan, SlurmSnapshot({"17": RUNNING})))[0] == "running"


def test_without_a_queue_a_submitted_run_that_never_spoke_is_unknown(workplace):
    plan = workplace.plan()
    submitted(workplace, plan, "17")
    reconciled_runs = reconcile(workplace.layout, plan, SlurmSnapshot(None))
    assert states(reconciled_runs) == ["unknown"] * 3
    assert to_submit(reconciled_runs, retry="failed", force=False) == ()
    assert len(to_submit(reconciled_runs, retry="all", force=False)) == 3


def test_a_run_with_a_heartbeat_is_running_and_a_silent_one_is_lost(workplace, attempt):
    plan = workplace.plan()
    silent = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    workplace.write_status(plan.runs[0], "training", attempt())
    workplace.write_status(plan.runs[1], "training", attempt(job="17_1"), heartbeat=silent)
    assert states(reconcile(workplace.layout, plan, SlurmSnapshot({}))) == ["running", "lost", "new"]
    # Without a queue to ask, a silent Slurm job may be alive on a node whose clock or file system lags.
    assert states(reconcile(workplace.layout, plan, SlurmSnapshot(None))) == ["running", "unknown", "new"]


def test_a_process_of_this_machine_that_is_gone_is_lost_at_once(workplace, attempt):
    plan = workplace.plan()
    here = socket.gethostname()
    workplace.write_status(plan.runs[0], "training", attempt(host=here, pid=DEAD_PID))
    workplace.write_status(plan.runs[1], "training", attempt(host=here, pid=os.getpid()))
    assert states(reconcile(workplace.layout, plan, SlurmSnapshot({}))) == ["lost", "running", "new"]


def test_a_stopped_run_is_submitted_again(workplace, attempt):
    plan = workplace.plan()
    workplace.write_status(plan.runs[0], "stopped", attempt())
    reconciled_runs = reconcile(workplace.layout, plan, SlurmSnapshot({}))
    assert states(reconciled_runs) == ["stopped", "new", "new"]
    assert plan.runs[0] in to_submit(reconciled_runs, retry=None, force=False)


def test_force_trains_again_what_is_done(workplace, attempt):
    plan = workplace.plan(fresh=True)
    for run in plan.runs:
        workplace.finish(run, attempt())
    reconciled_runs = reconcile(workplace.layout, plan, SlurmSnapshot({}))
    assert {reconciled.reason for reconciled in reconciled_runs} == {"to be trained again"}
    assert to_submit(reconciled_runs, retry=None, force=True) == plan.runs


def test_the_configuration_beside_a_run_loads_again_to_the_point(workplace):
    resolved = workplace.resolved()
    plan = make_plan(resolved)
    write_configs(workplace.layout, resolved, [1])
    assert not workplace.run(plan.runs[0]).config.exists()
    loaded = load_experiment(workplace.run(plan.runs[1]).config)
    assert loaded.points[0].experiment == resolved.runs[1].experiment


def test_standings_name_the_run(workplace):
    plan = workplace.plan()
    reconciled = reconcile(workplace.layout, plan, SlurmSnapshot({}))[0]
    assert isinstance(reconciled, ReconciledRun)
    assert reconciled.run.run_id.startswith("toy-")
