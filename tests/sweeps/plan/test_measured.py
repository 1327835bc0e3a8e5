"""Speeds of runs from what they left, and of calibrations; runs that differ in what matters are not timed alike."""

import os
from dataclasses import replace

import pytest

from sam2ft.core.files import write_json, write_text
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.attempt.status import RunStatus
from sam2ft.runs.resources.timing_key import evaluation_key, training_key
from sam2ft.sweeps.plan.cost import EvaluationSpeed, TrainingSpeed
from sam2ft.sweeps.plan.measured import TimedRun, measured
from sam2ft.sweeps.plan.workload import Workloads, epoch_slices, num_parameters


def timed(workplace, run, job="local", **values):
    attempt = Attempt(job, 0, "elsewhere", 1, "2026-01-01T00:00:00+00:00")
    status = RunStatus("done", attempt, values.pop("heartbeat", "2026-01-01T00:00:00+00:00"), **values)
    planned = run.planned
    return TimedRun(
        workplace.run(planned), status, run.experiment, run.evaluations, planned.resources, planned.eval_resources
    )


@pytest.fixture
def runs(workplace):
    return workplace.resolved().runs


def test_the_rest_of_an_epoch_is_what_its_steps_did_not_take(workplace, runs):
    run = runs[0]
    place = workplace.run(run.planned)
    # 10 steps of 2 s in 50 s, 10 more in 60 s, and 5 in 12 s: 30, 40 and 2 s beside the steps
    write_text(place.history, "epoch,step,improved,seconds\n0,10,1,50\n1,20,0,60\n2,25,0,12\n")
    write_text(place.best, "x" * 100)
    write_text(place.resume(20), "x" * 70)
    write_text(place.resume(25), "x" * 80)
    speeds = measured(workplace.layout, [timed(workplace, run, step_s=2.0, save_s=1.5)], lambda _: 2)
    key = training_key(run.experiment, run.planned.resources, "here")
    assert speeds.training == {key: TrainingSpeed(2.0, 30.0, 1.5, 100, 80, "1 run")}
    assert speeds.evaluation == {}


def test_the_newest_runs_count_and_their_median(workplace, runs):
    found = [
        timed(workplace, runs[0], step_s=float(seconds), heartbeat=f"2026-01-01T00:00:{seconds:02d}+00:00")
        for seconds in (1, 2, 3, 4, 5, 50)
    ]
    speeds = measured(workplace.layout, found, lambda _: 2)
    (speed,) = speeds.training.values()
    assert (speed.step_s, speed.source, speed.epoch_rest_s) == (4.0, "5 runs", None)


def test_another_place_model_size_or_number_of_gpus_is_another_kind(workplace, runs):
    experiment, resources = runs[0].experiment, runs[0].planned.resources
    key = training_key(experiment, resources, "here")
    assert training_key(runs[1].experiment, resources, "here") == key  # another learning rate takes as long
    others = [
        training_key(experiment, resources, "slurm"),
        training_key(experiment, replace(resources, gpus_per_node=1), "here"),
        training_key(workplace.resolved(("module.image_size=512",)).runs[0].experiment, resources, "here"),
        training_key(workplace.resolved(("datamodule.batch_size=1",)).runs[0].experiment, resources, "here"),
        training_key(
            workplace.resolved(("module.trainable.image_encoder=true",)).runs[0].experiment, resources, "here"
        ),
    ]
    assert len({key, *others}) == 6
    slower = workplace.resolved(("module.deterministic=true",)).runs[0].experiment
    assert training_key(slower, resources, "here") not in {key, *others}
    assert evaluation_key(slower, "e", resources, "here") != evaluation_key(experiment, "e", resources, "here")
    assert training_key(experiment, replace(resources, hours=5, mem_gb=9), "slurm") == others[0]
    (local,) = measured(workplace.layout, [timed(workplace, runs[0], step_s=1.0)], lambda _: 2).training
    (remote,) = measured(workplace.layout, [timed(workplace, runs[0], "7", step_s=1.0)], lambda _: 2).training
    assert (local, remote) == (key, others[0])


def test_an_evaluation_is_timed_by_its_files_and_a_pause_is_not_counted(workplace, runs):
    run = runs[0]
    (eval_id,) = run.evaluations
    place = workplace.run(run.planned).evaluation(eval_id)
    # written at 0, 4, 8 and 1000 s: the median gap of 4 s, times 4 volumes, over 20 slices
    for number, second in enumerate((0, 4, 8, 1000)):
        path = place.folder / "predictions" / "toy" / f"{number}.nii.gz"
        write_text(path, "x" * 50)
        os.utime(path, (10**9 + second, 10**9 + second))
    assert measured(workplace.layout, [timed(workplace, run)], lambda _: 20).evaluation == {}  # not finished
    write_json(place.success, {})
    speeds = measured(workplace.layout, [timed(workplace, run)], lambda _: 20)
    key = evaluation_key(run.experiment, eval_id, run.planned.eval_resources, "here")
    assert speeds.evaluation == {key: EvaluationSpeed(4 * 4 / 20, 200 / 20, "1 run")}


def test_a_run_is_believed_before_a_calibration(workplace, runs, capsys):
    run = runs[0]
    key = training_key(run.experiment, run.planned.resources, "here")
    place = workplace.layout.calibration(key)
    write_json(place.task, {"stage": "train"})  # what was asked for is no result
    assert measured(workplace.layout, [], lambda _: 2).training == {}
    write_json(place.result, {"stage": "train", "measured": {"step_s": 9.0, "epoch_rest_s": 3.0}})
    assert measured(workplace.layout, [], lambda _: 2).training == {key: TrainingSpeed(9.0, 3.0, source="calibration")}
    assert measured(workplace.layout, [timed(workplace, run, step_s=1.0)], lambda _: 2).training[key].step_s == 1.0
    write_json(place.result, {"stage": "train", "measured": {"speed": 9.0}})
    assert measured(workplace.layout, [], lambda _: 2).training == {}
    assert "not a calibration" in capsys.readouterr().err


def test_the_workload_of_a_point_by_counting(workplace, runs):
    # two train subjects of two labelled slices, batches of 2: 2 steps an epoch; one test subject of 2 x 8 x 8 voxels
    work = Workloads().of(runs[0])
    assert (work.steps_per_epoch, work.num_epochs, work.eval_slices, work.eval_bytes) == (2, 2, 2, 128)
    assert work.num_parameters == len(b"weights") // 4
    assert (work.resume_copies, work.keep) == (3, runs[0].experiment.module.checkpoint.keep)
    baseline = next(run for run in runs if run.planned.baseline)
    assert Workloads().of(baseline).num_epochs == 0
    assert (epoch_slices([3, 10], balanced=False), epoch_slices([3, 10], balanced=True)) == (13, 20)


def test_parameters_are_counted_in_a_safetensors_file(tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.float16)}, tmp_path / "x.safetensors")
    assert num_parameters(tmp_path / "x.safetensors") == 17
    assert num_parameters(tmp_path / "none.pt") is None
