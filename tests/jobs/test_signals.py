"""A real SIGTERM at each stage of a job inside an allocation: it saves, asks for a requeue, goes on to the same end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fixtures.trainers import read_best

from sam2ft.data.samples.dataset import SliceDataset
from sam2ft.distributed import stop_signal
from sam2ft.evaluation.prediction.tester import Tester
from sam2ft.jobs.job import execute_job
from sam2ft.runs.attempt.status import read_status
from sam2ft.training import trainer

pytestmark = pytest.mark.sam2
ROOT = Path(__file__).parents[2]
QUIET = ("module.visualize=false", "module.num_epochs=1")
STAGES = {
    "first batch": (SliceDataset, "__getitem__", "stopped as asked after step [01] "),
    "validation": (trainer, "validate", r"stopped as asked after step 5 \(epoch 1\)"),
    "evaluation": (Tester, "_volume", "stopped as asked after 1 of 2 volumes; they are kept"),
}


@pytest.fixture
def stop():
    before = {number: signal.getsignal(number) for number in stop_signal.STOP_SIGNALS}
    yield stop_signal.install_stop_handlers()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def whole():
    """What a job of these settings ends with when nobody disturbs it; made on demand."""
    return {}


def end_of(point):
    weights, info = read_best(point.layout.best)
    return weights, info, {path.name: path.read_bytes() for path in point.evaluation.folder.rglob("*.csv")}


def nothing_half_written(layout):
    assert not list(layout.folder.rglob("*.partial*"))


@pytest.mark.parametrize(
    "stage",
    ["first batch", *(pytest.param(stage, marks=pytest.mark.slow) for stage in STAGES if stage != "first batch")],
)
def test_a_signal_at_any_stage_saves_asks_for_a_requeue_and_changes_nothing(
    point_with, monkeypatch, stop, whole, stage
):
    point = point_with(*QUIET)
    if not whole:
        assert execute_job(point.job(), stop) == 0
        whole["end"] = end_of(point)
        point.layout.folder.rename(point.layout.folder.with_name("whole"))
        point = point_with(*QUIET)
    where, name, said = STAGES[stage]
    original, times = getattr(where, name), []

    def told(*arguments, **options):
        if not times:
            os.kill(os.getpid(), signal.SIGTERM)
        times.append(1)
        return original(*arguments, **options)

    monkeypatch.setenv("SLURM_JOB_ID", "5")
    with monkeypatch.context() as patch:
        patch.setattr(where, name, told)
        assert execute_job(point.job(), stop) == 75
    assert times
    status = read_status(point.layout)
    assert status.state == "stopped"
    assert re.match(said, status.reason), status.reason
    assert json.loads(point.layout.requeue.read_text())["job"] == "5"
    nothing_half_written(point.layout)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert execute_job(point.job(), stop_signal.StopFlag()) == 0
    assert not point.layout.requeue.exists()
    (weights, info, tables), (expected, expected_info, expected_tables) = end_of(point), whole["end"]
    assert all(torch.equal(tensor, expected[key]) for key, tensor in weights.items())
    assert (info, tables) == (expected_info, expected_tables)


AT_IMPORT = """
import os, signal, sys

class AtTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGTERM)

from sam2ft.jobs.job import main
assert "torch" not in sys.modules
sys.meta_path.insert(0, AtTorch())
main(sys.argv[1:])
"""


@pytest.fixture
def start(toy):
    """start(code or None, stage, **environment): a job of the toy in a process of its own, inside an allocation."""
    started = []

    def run(code, stage, **environment):
        (plan,) = toy.folder.glob("runs/toy/plan-*.json")
        command = [sys.executable, *(["-c", code] if code else ["-m", "sam2ft.jobs.job"])]
        arguments = ["runs/toy", plan.stem.removeprefix("plan-"), "0", stage]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "SLURM_JOB_ID": "5", **environment}
        started.append(subprocess.Popen([*command, *arguments], env=variables))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_signal_while_torch_is_imported_stops_before_training_begins(point_with, start):
    point = point_with(*QUIET)
    assert start(AT_IMPORT, "train").wait(timeout=240) == 75
    assert read_status(point.layout).reason == "stopped as asked before the training began"
    assert point.layout.requeue.exists()
    nothing_half_written(point.layout)
    assert start(None, "train", SLURM_RESTART_COUNT="1").wait(timeout=240) == 0
    # A whole evaluation later: the same at its beginning.
    assert start(AT_IMPORT, "eval", SLURM_RESTART_COUNT="2").wait(timeout=240) == 75
    assert read_status(point.layout).reason == "stopped as asked before the evaluation began"


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_while_the_processes_wait_for_each_other_stops_those_that_are_there(point_with, start, told):
    """Two of three have met; the last one never comes."""
    point = point_with(*QUIET, "resources.tasks_per_node=3")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    step = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "3", "SLURM_STEP_NODELIST": "n1", "MASTER_PORT": port}
    ranks = [start(None, "train", SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), **step) for rank in range(2)]
    ends = time.monotonic() + 120
    while True:
        assert time.monotonic() < ends
        assert all(process.poll() is None for process in ranks)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                break
        time.sleep(0.1)
    time.sleep(5)
    began = time.monotonic()
    ranks[told].send_signal(signal.SIGTERM)
    assert [process.wait(timeout=60) for process in ranks] == [75, 75]
    assert time.monotonic() - began < 20
    assert read_status(point.layout).reason == "stopped as asked before all processes had connected"
    assert point.layout.requeue.exists()
    nothing_half_written(point.layout)
