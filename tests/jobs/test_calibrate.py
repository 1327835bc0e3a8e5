"""A calibration times the code path of real runs, keeps only its numbers, and leaves every run alone."""

import json
from pathlib import Path

import pytest

from sam2ft.config.load_experiment import dump_experiment, load_experiment
from sam2ft.core.errors import StopRequestedError
from sam2ft.core.files import write_json, write_text
from sam2ft.distributed import stop_signal
from sam2ft.jobs import calibrate as module
from sam2ft.jobs.calibrate import _Clock, calibrate
from sam2ft.jobs.preflight.preflight import resolve
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.sweeps.plan.calibrate import items_of
from sam2ft.sweeps.plan.estimate import SweepTarget
from sam2ft.sweeps.plan.measured import read_calibrations


class Event:
    def __init__(self, seconds):
        self.seconds = seconds


@pytest.fixture
def items(toy, monkeypatch):
    """What is to be measured of the toy experiment; no signal handler outlives the test."""
    monkeypatch.setattr(stop_signal, "install_stop_handlers", stop_signal.StopFlag)
    resolved = resolve(load_experiment(Path("toy.yaml"), ("module.visualize=false",)))
    found = items_of(resolved, SweepTarget(None, None))
    layout = ExperimentLayout.of("toy")
    for item in found:
        write_text(layout.calibration(item.key).experiment, dump_experiment(item.experiment))
        write_json(layout.calibration(item.key).task, {"stage": item.stage, "world_size": 1})
    return found


@pytest.mark.sam2
def test_steps_saving_validation_and_a_volume_are_measured(items, monkeypatch):
    monkeypatch.setattr(module, "NUM_STEPS", 2)
    layout = ExperimentLayout.of("toy")
    before = {path for path in Path("runs").rglob("*") if path.is_file()}
    assert sorted(item.stage for item in items) == ["eval", "train"]
    calibrate(str(layout.folder), [item.key for item in items])
    made = {path for path in Path("runs").rglob("*") if path.is_file()} - before
    assert {path for path in made if path.name != ".digests.json"} == {
        layout.calibration(item.key).result for item in items
    }
    speeds = read_calibrations(layout)
    (train,), (evaluation,) = speeds.training.values(), speeds.evaluation.values()
    assert min(train.step_s, train.epoch_rest_s, train.save_s, evaluation.slice_s, evaluation.slice_bytes) > 0
    # a resume file holds the states of the optimizer beside the weights
    assert train.resume_bytes > train.best_bytes > 0


@pytest.mark.sam2
def test_a_stopped_calibration_leaves_nothing(items, monkeypatch):
    def stopped():
        flag = stop_signal.StopFlag()
        flag.signal = stop_signal.signal.SIGTERM
        return flag

    monkeypatch.setattr(stop_signal, "install_stop_handlers", stopped)
    layout = ExperimentLayout.of("toy")
    key = next(item.key for item in items if item.stage == "train")
    with pytest.raises(StopRequestedError):
        calibrate(str(layout.folder), [key])
    assert not layout.calibration(key).result.exists()
    assert not layout.calibration(key).scratch.exists()


def test_first_steps_do_not_count_and_enough_is_enough():
    now = [0.0]
    clock = _Clock(stop_signal.StopFlag(), clock=lambda: now[0])
    for seconds in (90, 50, 20, 1, 3, 2):
        clock.on_step(Event(seconds), None)
    assert clock.step_s() == 2
    assert not clock.requested
    now[0] = module.LONG_ENOUGH_S + 1
    assert clock.requested
    few = _Clock(stop_signal.StopFlag(), clock=lambda: now[0])
    few.on_step(Event(7), None)
    now[0] += module.LONG_ENOUGH_S + 1
    assert not few.requested
    assert few.step_s() == 7
    many = _Clock(stop_signal.StopFlag(), clock=lambda: 0.0)
    for _ in range(module.NUM_STEPS):
        many.on_step(Event(1), None)
    assert many.requested


def test_points_that_take_alike_are_measured_once(toy):
    grid = ('sweep={"grid": {"module.optimizer.lr": [1e-3, 1e-4], "module.image_size": [64, 128]}}',)
    resolved = resolve(load_experiment(Path("toy.yaml"), grid))
    found = items_of(resolved, SweepTarget(None, None))
    assert json.dumps(sorted((item.stage, item.experiment.module.image_size) for item in found)) == json.dumps(
        [("eval", 64), ("eval", 128), ("train", 64), ("train", 128)]
    )
