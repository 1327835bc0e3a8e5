"""One training of a real (nano, random) SAM 2: what it leaves, and that being cut short changes nothing."""

import json
import re
import signal
from types import SimpleNamespace

import pytest
import torch
from fixtures.trainers import read_best
from sam2.build_sam import build_sam2

from sam2ft.core.errors import CheckpointError, ClaimedError, StopRequestedError
from sam2ft.core.files import read_json, sha256_file, write_json
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.jobs.job import execute_job
from sam2ft.model.nano import overrides as nano
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.attempt.log import kept_output
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.history import read_history
from sam2ft.runs.layout import RunLayout
from sam2ft.training import run as run_module
from sam2ft.training.checkpoints.checkpoint import load_newest_resume, read_resume, resume_files
from sam2ft.training.run import refuse_different_starts, train
from sam2ft.training.state import TrainState

pytestmark = pytest.mark.sam2
STEPS = 10  # 9 labelled slices in batches of 2, twice


def boom():
    raise RuntimeError("the sky fell")


def history_without_time(layout: RunLayout) -> list[dict[str, str]]:
    return [{name: text for name, text in row.items() if name != "seconds"} for row in read_history(layout)]


def assert_same_training(one: RunLayout, other: RunLayout) -> None:
    """Bit for bit: history, best weights, and everything that a further step would depend on."""
    assert history_without_time(one) == history_without_time(other)
    (weights, info), (other_weights, other_info) = read_best(one.best), read_best(other.best)
    assert info == other_info
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    last, other_last = read_resume(one.resume(STEPS)), read_resume(other.resume(STEPS))
    assert all(torch.equal(last["model"][name], other_last["model"][name]) for name in last["model"])
    moments, other_moments = last["optimizer"]["state"], other_last["optimizer"]["state"]
    assert all(torch.equal(moments[n]["exp_avg"], other_moments[n]["exp_avg"]) for n in moments)


@pytest.fixture
def reference(finished_folder) -> RunLayout:
    """The run that was trained in one go."""
    (run,) = [path.parent for path in (finished_folder / "runs" / "toy").glob("*/status.json")]
    return RunLayout(run)


def test_a_training_leaves_weights_history_status_pictures_and_a_resume_file(reference):
    history = read_history(reference)
    assert [(row["epoch"], row["step"]) for row in history] == [("0", "5"), ("1", "10")]
    assert float(history[1]["train_loss"]) < float(history[0]["train_loss"])
    status = read_status(reference)
    assert (status.state, status.trained, status.epoch, status.num_epochs, status.step) == ("done", True, 1, 2, STEPS)
    assert status.best_sha256 == sha256_file(reference.best)
    best = min(history, key=lambda row: float(row["val_loss"]))
    assert (status.best_epoch, status.best_value) == (int(best["epoch"]), float(best["val_loss"]))
    pictures = sorted(str(path.relative_to(reference.qc)) for path in reference.qc.rglob("*.png"))
    assert pictures == [f"toy/d__image__00{index}/epoch-00{epoch}.png" for index in (1, 2, 3) for epoch in (1, 2)]
    assert load_newest_resume(reference.checkpoints).path == reference.resume(STEPS)
    assert not list(reference.folder.rglob("*.partial*"))


def test_best_pt_loads_strictly_in_stock_sam2_and_says_what_it_is(reference):
    content = torch.load(reference.best, weights_only=True)
    stock = build_sam2(
        nano.BASE_CONFIG,
        str(reference.best),
        device="cpu",
        hydra_overrides_extra=[*nano.OVERRIDES, "++model.image_size=64"],
    )
    assert stock.state_dict().keys() == content["model"].keys()
    assert all(torch.equal(tensor, content["model"][name]) for name, tensor in stock.state_dict().items())
    info = json.loads(content["sam2ft"])
    assert (info["run"], info["sam2_model_cfg"], info["image_size"]) == (reference.run_id, "sam2_nano", 64)
    assert info["labels"] == {"1": {"name": "disc"}, "2": {"name": "bar"}}


def test_only_what_is_asked_for_was_trained(reference, toy):
    from safetensors.torch import load_file

    before, (after, _) = load_file(toy.weights), read_best(reference.best)
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed
    assert all(name.startswith("sam_mask_decoder.") for name in changed)


@pytest.mark.parametrize("step", [3, 5, 7])
def test_a_training_that_is_stopped_and_continued_ends_as_one_that_was_not(point, at_step, reference, step):
    stop = StopFlag()
    at_step(step, lambda: stop.handle(signal.SIGTERM, None))
    with pytest.raises(StopRequestedError, match=f"after step {step} "):
        point.train(stop)
    assert load_newest_resume(point.layout.checkpoints).path == point.layout.resume(step)
    assert point.train().step == STEPS
    assert_same_training(point.layout, reference)


def test_a_training_that_crashed_continues_from_its_last_file_and_ends_the_same(point, at_step, reference):
    at_step(8, boom)
    with pytest.raises(RuntimeError, match="the sky fell"):
        point.train()
    assert [path.name for path in resume_files(point.layout.checkpoints)] == ["000000005.safetensors"]
    at_step(0, boom)
    point.train()
    assert_same_training(point.layout, reference)


def test_fresh_starts_anew_and_never_goes_on_from_what_was_there_before(point, at_step, reference):
    point.train()
    stop, steps = StopFlag(), []
    at_step(1, lambda: steps.append(1))
    at_step(3, lambda: stop.handle(signal.SIGTERM, None))
    with pytest.raises(StopRequestedError, match="after step 3 "):
        point.train(stop, fresh=True)
    assert [path.name for path in resume_files(point.layout.checkpoints)] == ["000000003.safetensors"]
    at_step(4, lambda: steps.append(4))
    point.train()
    assert steps == [4]
    assert_same_training(point.layout, reference)


def test_a_resume_file_of_another_run_is_refused(finished):
    renamed = RunLayout(finished.layout.folder.rename(finished.layout.folder.with_name("toy-0000000000000000")))
    write_json(renamed.claim, (attempt := Attempt.current()).to_json())
    before = {path: path.stat().st_mtime_ns for path in renamed.checkpoints.iterdir()}
    with pytest.raises(CheckpointError, match=f"belongs to the run {finished.layout.run_id}, not to toy-0000"):
        train(finished.experiment, renamed, attempt, stop=StopFlag(), fresh=False, planned_world_size=1)
    assert {path: path.stat().st_mtime_ns for path in renamed.checkpoints.iterdir()} == before


def test_an_attempt_that_a_newer_one_replaced_stops_without_writing(point, at_step):
    newer = Attempt("77", 1, "elsewhere", 1, "2026-01-01T00:00:00+00:00")
    before = {}

    def kept() -> dict[str, bytes]:
        files = [path for path in point.layout.folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
        return {str(path): path.read_bytes() for path in files}

    def take_over() -> None:
        write_json(point.layout.claim, newer.to_json())
        before.update(kept())

    at_step(7, take_over)
    with pytest.raises(ClaimedError, match="now held by job 77"):
        point.train()
    assert kept() == before
    assert load_newest_resume(point.layout.checkpoints).path == point.layout.resume(5)


def test_an_exception_in_training_is_a_failure_with_its_traceback_in_the_log_and_never_done(point, at_step, capsys):
    at_step(4, boom)
    job = point.job()
    with pytest.raises(SystemExit) as ended, kept_output(job.log):
        execute_job(job, StopFlag())
    assert ended.value.code == 1
    status = read_status(point.layout)
    assert (status.state, status.failure_class, status.reason) == ("failed", "error", "RuntimeError: the sky fell")
    assert not status.trained
    log = job.log.read_text()
    assert "Traceback (most recent call last)" in log
    assert log.rstrip().endswith("RuntimeError: the sky fell")
    assert not re.search("completed|done", log)
    assert not point.evaluation.success.exists()


def test_a_stopped_job_says_so_and_exits_with_143_outside_slurm(point, at_step):
    stop = StopFlag()
    at_step(2, lambda: stop.handle(signal.SIGTERM, None))
    assert execute_job(point.job(), stop) == 143
    assert read_status(point.layout).state == "stopped"
    assert not point.layout.requeue.exists()


def test_a_stopped_job_inside_an_allocation_leaves_its_marker_and_exits_with_75(point, at_step, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    stop = StopFlag()
    at_step(2, lambda: stop.handle(signal.SIGUSR2, None))
    assert execute_job(job := point.job(attempt=Attempt("5", 0, "here", 1, "2026-01-01T00:00:00+00:00")), stop) == 75
    assert read_json(point.layout.requeue) == job.attempt.to_json()


def test_processes_that_see_different_resume_files_do_not_train_together():
    ranks = SimpleNamespace(gather=lambda values: [[7.0], values])
    refuse_different_starts(ranks, TrainState(step=7))
    with pytest.raises(CheckpointError, match="of steps 7, 5 in order of rank"):
        refuse_different_starts(ranks, TrainState(step=5))
    with pytest.raises(CheckpointError, match="of steps 7, 0 "):
        refuse_different_starts(ranks, None)


def test_a_run_records_how_it_began_and_keeps_it_over_attempts(point, at_step, monkeypatch):
    """As on a GPU: the choice is recorded by the first attempt only, outside of what the name is the hash of."""
    built: list[bool] = []
    build = run_module.build_trainer

    def noted(*args, fused, **kwargs):
        built.append(fused)
        return build(*args, fused=fused, **kwargs)

    monkeypatch.setattr(run_module, "build_trainer", noted)
    monkeypatch.setattr(run_module, "chooses_fused", lambda section, device_type: True)
    at_step(8, boom)
    with pytest.raises(RuntimeError, match="the sky fell"):
        point.train()
    identity = read_json(point.layout.identity)
    assert identity["began"] == {"fused": True}
    assert "fused" not in json.dumps(identity["content"]).replace('"fused": null', "")
    monkeypatch.setattr(run_module, "chooses_fused", lambda section, device_type: False)
    at_step(0, boom)
    point.train()
    assert built == [True, True]
    assert read_resume(point.layout.resume(STEPS))["optimizer"]["param_groups"][0]["fused"] is True
    assert read_json(point.layout.identity) == identity


@pytest.mark.parametrize("damaged", [False, True])
def test_a_run_of_an_earlier_version_goes_on_as_it_began_on_a_gpu_too(point, at_step, reference, monkeypatch, damaged):
    at_step(8, boom)
    with pytest.raises(RuntimeError, match="the sky fell"):
        point.train()
    assert "began" not in read_json(point.layout.identity)
    if damaged:
        point.layout.identity.write_text("{")
    monkeypatch.setattr(run_module, "chooses_fused", lambda section, device_type: True)
    at_step(0, boom)
    point.train()
    assert "began" not in read_json(point.layout.identity)
    assert_same_training(point.layout, reference)
