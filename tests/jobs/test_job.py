"""How a run ends, with a training and an evaluation that are told what to do."""

import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from sam2ft.core.errors import CheckpointError, ClaimedError, StopRequestedError
from sam2ft.core.files import read_json, sha256_file, write_json, write_text
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.jobs.job import PointJob, execute_job, planned_job
from sam2ft.runs.attempt.claim import Attempt, holder
from sam2ft.runs.attempt.log import kept_output
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedPoint, PlannedRun, Resources, save_plan

CONFIG = """\
experiment: {name: toy}
dataset: {toy: {store: data/toy}}
module: {sam2_model_cfg: sam2_nano, num_epochs: 1}
"""
RUN = PlannedRun(
    index=0,
    run_id="toy-0123456789abcdef",
    stage="train_eval",
    baseline=False,
    points=(PlannedPoint("toy", (), "aaaaaaaaaaaa"),),
    resources=Resources(1, 1, 0, 1, 1.0, 1.0),
    eval_resources=Resources(1, 1, 0, 1, 1.0, 1.0),
)


class Work:
    """Stands for training.run and evaluation.run."""

    def __init__(self, monkeypatch):
        self.calls = []
        self.in_training = lambda: None
        self.in_evaluation = lambda: None
        modules = {"training": {"train": self.train}, "evaluation": {"evaluate": self.evaluate}}
        for name, functions in modules.items():
            module = types.ModuleType(f"sam2ft.{name}.run")
            vars(module).update(functions)
            monkeypatch.setitem(sys.modules, f"sam2ft.{name}.run", module)

    def train(self, experiment, layout, attempt, *, stop, fresh, **planned):
        self.calls.append(("train", read_status(layout).state, fresh))
        print("training in words")
        self.in_training()
        write_text(layout.best, "weights")
        return types.SimpleNamespace(stopping=types.SimpleNamespace(best_epoch=0))

    def evaluate(self, experiment, layout, attempt, *, checkpoint, eval_id, stop):
        self.calls.append(("evaluate", read_status(layout).state, eval_id, checkpoint.name))
        self.in_evaluation()


@pytest.fixture
def work(monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return Work(monkeypatch)


@pytest.fixture
def job(tmp_path):
    layout = ExperimentLayout(tmp_path / "toy").run(RUN.run_id)
    write_text(layout.config, CONFIG)
    return PointJob(layout, RUN, "train_eval", Attempt.current({}))


def run(job):
    with kept_output(job.log):
        return execute_job(job, StopFlag())


def fail(error):
    def act():
        raise error

    return act


def test_a_point_is_trained_and_evaluated_and_says_so(job, work):
    assert run(job) == 0
    assert work.calls == [("train", "training", False), ("evaluate", "evaluating", "aaaaaaaaaaaa", "best.pt")]
    status = read_status(job.layout)
    assert (status.state, status.trained, status.best_sha256) == ("done", True, sha256_file(job.layout.best))
    assert "training in words" in job.log.read_text()
    assert read_json(job.layout.provenance)["attempts"][0]["attempt"] == job.attempt.to_json()


def test_a_trained_run_is_only_evaluated(job, work):
    run(job)
    work.calls.clear()
    assert run(job) == 0
    assert [call[0] for call in work.calls] == ["evaluate"]


def test_fresh_trains_again(job, work):
    run(job)
    work.calls.clear()
    again = PointJob(job.layout, job.run, job.stage, job.attempt, fresh=True)
    assert run(again) == 0
    assert work.calls[0] == ("train", "training", True)


def test_an_exception_is_failed_with_its_traceback_in_the_log_and_code_1(job, work):
    work.in_training = fail(ZeroDivisionError("no steps"))
    with pytest.raises(SystemExit) as ended:
        run(job)
    assert ended.value.code == 1
    status = read_status(job.layout)
    assert (status.state, status.failure_class, status.reason) == ("failed", "error", "ZeroDivisionError: no steps")
    assert not status.trained
    log = job.log.read_text()
    assert "Traceback (most recent call last)" in log
    assert log.rstrip().endswith("ZeroDivisionError: no steps")
    assert [call[0] for call in work.calls] == ["train"]


def test_what_the_user_can_fix_is_a_message_and_code_2(job, work):
    work.in_evaluation = fail(CheckpointError("best.pt: of another model"))
    assert run(job) == 2
    assert read_status(job.layout).state == "failed"
    assert "Traceback" not in job.log.read_text()
    assert "best.pt: of another model" in job.log.read_text()


@pytest.mark.parametrize("stage", ["train", "eval", "train_eval"])
def test_a_slurm_job_without_its_planned_gpus_fails_as_device_and_never_computes_on_the_cpu(
    job, work, monkeypatch, stage
):
    """The test also holds on a machine with GPUs, which are hidden; on this machine a run takes what there is."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    asked, cpu = Resources(1, 1, 2, 1, 1.0, 1.0), Resources(1, 1, 0, 1, 1.0, 1.0)
    planned = replace(job.run, resources=cpu if stage == "eval" else asked, eval_resources=asked)
    if stage == "eval":
        assert run(job) == 0
        work.calls.clear()
    local = replace(job, run=planned, stage=stage)
    of_slurm = replace(local, attempt=Attempt.current({"SLURM_JOB_ID": "17", **os.environ}))
    assert run(of_slurm) == 2
    assert work.calls == []
    status = read_status(job.layout)
    assert (status.state, status.failure_class) == ("failed", "device")
    assert status.reason.startswith("DeviceError: resources.gpus_per_node: 2 planned, but torch sees no GPU")
    assert "--retry device" in status.failure_class.next_step
    assert "slurm.exclude" in status.failure_class.next_step
    assert run(replace(of_slurm, run=replace(planned, resources=cpu, eval_resources=cpu))) == 0
    work.calls.clear()
    assert run(local) == 0
    assert work.calls or stage == "train"


def test_running_out_of_memory_has_its_own_class(job, work):
    work.in_training = fail(MemoryError())
    with pytest.raises(SystemExit):
        run(job)
    assert read_status(job.layout).failure_class == "oom"


def test_a_training_without_a_best_epoch_failed(job, work, monkeypatch):
    nothing = types.SimpleNamespace(stopping=types.SimpleNamespace(best_epoch=None))
    monkeypatch.setattr(sys.modules["sam2ft.training.run"], "train", lambda *_, **__: nothing)
    write_text(job.layout.best, "of an earlier training")
    with pytest.raises(SystemExit):
        run(job)
    status = read_status(job.layout)
    assert "without a best epoch: val_loss" in status.reason
    assert not status.trained


def test_told_to_stop_is_143_outside_slurm_and_75_with_a_marker_inside(job, work, monkeypatch):
    work.in_training = fail(StopRequestedError("saved at step 7"))
    assert run(job) == 143
    assert read_status(job.layout).state == "stopped"
    assert not job.layout.requeue.exists()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    inside = PointJob(job.layout, job.run, job.stage, Attempt.current())
    assert run(inside) == 75
    assert f'"job": "{inside.attempt.job}"' in job.layout.requeue.read_text()


def test_the_marker_of_an_earlier_stop_is_gone_once_the_run_goes_on(job, work):
    write_json(job.layout.requeue, {"job": "17"})
    assert run(job) == 0
    assert not job.layout.requeue.exists()


def test_ctrl_c_is_130(job, work):
    work.in_training = fail(KeyboardInterrupt())
    assert run(job) == 130
    assert read_status(job.layout).state == "stopped"


def test_an_attempt_that_lost_its_claim_writes_nothing_more(job, work):
    newer = Attempt("17", 1, "node2", 5, job.attempt.started)

    def lose():
        write_json(job.layout.claim, newer.to_json())
        raise ClaimedError("now held by another")

    work.in_training = lose
    assert run(job) == 1
    assert holder(job.layout) == newer
    assert read_status(job.layout).state == "training"


def test_an_evaluation_does_not_trust_that_training_ended(job, work):
    only = PointJob(job.layout, job.run, "eval", job.attempt)
    assert run(only) == 2
    assert work.calls == []
    assert "is not trained" in read_status(job.layout).reason


def test_a_requeued_job_of_a_fresh_plan_goes_on_with_what_it_made(tmp_path, monkeypatch):
    layout = ExperimentLayout(tmp_path / "toy")
    plan = Plan("toy", "toy.yaml", True, (RUN,))
    save_plan(layout, plan)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert planned_job(layout.folder, plan.plan_id, 0, "train_eval").fresh
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert not planned_job(layout.folder, plan.plan_id, 0, "train_eval").fresh


def test_importing_the_job_does_not_import_torch():
    code = "import sys, sam2ft.jobs.job; sys.exit(sum(name in sys.modules for name in ('torch', 'pandas', 'monai')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
