"""A training of the nano in processes of its own that are killed and stopped, again and again, at real moments."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from fixtures.file_sets import file_set
from fixtures.trainers import read_best

from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.history import read_history
from sam2ft.runs.layout import RunLayout
from sam2ft.training.checkpoints.checkpoint import read_resume, resume_files

pytestmark = [pytest.mark.sam2, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240
KILLS = 6
# Nine labelled slices, two a step on one rank and four on two; a checkpoint every second step.
SETTINGS = (
    "module.visualize=false",
    "module.image_size=128",
    "module.trainable.image_encoder=true",
    "module.loss.seg=BCE",
    "module.num_epochs=14",
    "module.ema={decay: 0.9}",
    "module.scheduler={type: OneCycleLR, max_lr: 1e-3, interval: step}",
    "module.grad_accum=2",
    "module.checkpoint.every_minutes=null",
    "module.checkpoint.every_steps=2",
    "datamodule.batch_size=1",
)


@dataclass
class Processes:
    """One attempt at the run in the working directory: a process per rank, in a session (and process group) each."""

    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, world_size: int, allocation: dict[str, str]) -> None:
        (plan,) = Path("runs/toy").glob("plan-*.json")
        command = [sys.executable, "-m", "sam2ft.jobs.job", "runs/toy", plan.stem.removeprefix("plan-"), "0", "train"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **allocation}
        self.children = [
            subprocess.Popen(command, env=environment | place, start_new_session=True)
            for place in (_places(world_size, allocation) if world_size > 1 else [{}])
        ]

    def ended(self) -> list[int]:
        """Their exit codes, when all have ended."""
        return [child.wait(timeout=PATIENCE_S) for child in self.children]

    @property
    def run(self) -> bool:
        return all(child.poll() is None for child in self.children)


def _places(world_size: int, allocation: dict[str, str]) -> Iterator[dict[str, str]]:
    """What torchrun, or srun inside an allocation, tells each process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    for rank in map(str, range(world_size)):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        if allocation:
            step = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": str(world_size), "SLURM_STEP_NODELIST": "n1"}
            yield place | step | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        else:
            yield place | {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(world_size)}


@pytest.fixture
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    for child in started.children:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@pytest.fixture(scope="module")
def references() -> dict[int, RunLayout]:
    """World size -> the run that was trained in one go; made on demand."""
    return {}


@pytest.fixture
def begin(point_with, toy, references, processes, tmp_path, tmp_path_factory):
    """begin(world_size, workers): the run of these settings, of which nothing is done, and the one that was not cut."""

    def start(world_size: int, workers: int) -> tuple[RunLayout, RunLayout]:
        more = (f"resources.tasks_per_node={world_size}", f"datamodule.num_workers={workers}")
        layout = point_with(*SETTINGS, *more).layout
        if world_size not in references:
            planned = tmp_path / "planned"
            shutil.copytree(layout.folder, planned)
            processes.start(world_size, {})
            assert processes.ended() == [0] * world_size, _logs(layout)
            kept = tmp_path_factory.mktemp("reference")  # outlives this test
            references[world_size] = RunLayout(kept / layout.run_id)
            shutil.copytree(layout.folder, references[world_size].folder)
            shutil.rmtree(layout.folder)
            planned.rename(layout.folder)
        return layout, references[world_size]

    return start


def _logs(layout: RunLayout) -> str:
    return "\n".join(f"--- {path.name}\n{path.read_text()[-4000:]}" for path in sorted(layout.logs.glob("*.log")))


def assert_same_training(one: RunLayout, other: RunLayout) -> None:
    def history(layout: RunLayout) -> list[dict[str, str]]:
        return [{name: text for name, text in row.items() if name != "seconds"} for row in read_history(layout)]

    assert history(one) == history(other)
    (weights, info), (other_weights, other_info) = read_best(one.best), read_best(other.best)
    assert info == other_info
    assert all(torch.equal(tensor, other_weights[name]) for name, tensor in weights.items())
    (last, *_), (other_last, *_) = resume_files(one.checkpoints), resume_files(other.checkpoints)
    assert last.name == other_last.name
    first, second = read_resume(last), read_resume(other_last)
    assert all(torch.equal(tensor, second["model"][name]) for name, tensor in first["model"].items())
    assert all(torch.equal(tensor, second["average"][name]) for name, tensor in first["average"].items())
    for number, moments in first["optimizer"]["state"].items():
        assert all(torch.equal(moments[name], second["optimizer"]["state"][number][name]) for name in moments)
    assert first["scheduler"] == second["scheduler"]
    assert first["state"] == second["state"]


def newest(layout: RunLayout) -> str:
    return next((path.name for path in resume_files(layout.checkpoints)), "")


def wait_for_progress(processes: Processes, layout: RunLayout, before: str) -> None:
    """Until this attempt has written a resume file: else a chain of kills would never end."""
    ends = time.monotonic() + PATIENCE_S
    while newest(layout) == before:
        assert processes.run, _logs(layout)
        assert time.monotonic() < ends, _logs(layout)
        time.sleep(0.002)


def wait_for_a_write(processes: Processes, layout: RunLayout) -> None:
    """Until a checkpoint is being written."""
    while processes.run and not list(layout.checkpoints.glob(".partial/*/*")):
        time.sleep(0.0002)


# Kills and stops share the four pairs of ranks and workers: each has every number of both.
@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (2, 2)])
def test_a_training_that_is_killed_six_times_ends_with_the_same_bits(begin, processes, world_size, workers):
    layout, reference = begin(world_size, workers)
    rng = random.Random(f"{world_size} {workers}")
    cut_writes = 0
    for number in range(KILLS):
        before = newest(layout)
        processes.start(world_size, {})
        wait_for_progress(processes, layout, before)
        if number % 2:
            wait_for_a_write(processes, layout)
            time.sleep(rng.uniform(0, 0.01))
        else:
            time.sleep(rng.uniform(0, 0.5))
        assert processes.run, "training was over before it could be killed"
        # All ranks, or one: the other has to end by itself.
        victims = processes.children if number % 3 else [rng.choice(processes.children)]
        for child in victims:
            child.kill()
        codes = processes.ended()
        assert all(codes), codes
        assert codes.count(-signal.SIGKILL) >= len(victims)
        cut_writes += bool(list(layout.checkpoints.glob(".partial/*/*")))
    processes.start(world_size, {})
    assert processes.ended() == [0] * world_size, _logs(layout)
    assert cut_writes, "no kill fell into a write"
    assert_same_training(layout, reference)
    assert file_set(layout.folder) == file_set(reference.folder)
    assert sum("rank1" in path.name for path in layout.logs.glob("*.log")) == (KILLS + 1) * (world_size - 1)


@pytest.mark.parametrize(("world_size", "workers"), [(1, 2), (2, 0)])
def test_a_training_that_is_stopped_by_signals_says_so_and_ends_with_the_same_bits(
    begin, processes, world_size, workers
):
    """One rank alone is told, or all processes with their forked workers, as scancel and the time limit do."""
    layout, reference = begin(world_size, workers)
    outside: dict[str, str] = {}
    stops = [(outside, signal.SIGTERM, False), (outside, signal.SIGUSR2, True)]
    inside = [{"SLURM_JOB_ID": "5", "SLURM_RESTART_COUNT": str(restart)} for restart in range(3)]
    stops += [(inside[0], signal.SIGUSR2, True), (inside[1], signal.SIGTERM, False)]
    for allocation, number, all_processes in stops:
        before = newest(layout)
        processes.start(world_size, allocation)
        wait_for_progress(processes, layout, before)
        assert processes.run, "training was over before it could be stopped"
        if all_processes:
            for child in processes.children:
                os.killpg(child.pid, number)
        else:
            processes.children[-1].send_signal(number)
        assert processes.ended() == [75 if allocation else 143] * world_size, _logs(layout)
        assert read_status(layout).state == "stopped"
        assert layout.requeue.exists() == bool(allocation)
        if allocation:
            marker = json.loads(layout.requeue.read_text())
            assert (marker["job"], marker["restart"]) == ("5", int(allocation["SLURM_RESTART_COUNT"]))
    processes.start(world_size, inside[2])
    assert processes.ended() == [0] * world_size, _logs(layout)
    assert not layout.requeue.exists()
    assert_same_training(layout, reference)
