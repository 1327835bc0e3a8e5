"""A best.pt that is damaged is never evaluated, and what the message says makes it again."""

import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch

from sam2ft.cli.train import main
from sam2ft.core.errors import CheckpointError
from sam2ft.core.files import sha256_file
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.evaluation.checkpoints import CheckpointRequest, job_of
from sam2ft.jobs.job import execute_job
from sam2ft.runs.attempt.status import read_status
from sam2ft.training.checkpoints.checkpoint import read_resume, resume_files, save_best, save_resume

pytestmark = pytest.mark.sam2


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def of_another_training(path: Path) -> None:
    """Whole and with a right digest, but not what this run wrote."""
    content = torch.load(path, weights_only=True)
    save_best(path, {name: tensor * 1.5 for name, tensor in content["model"].items()}, {"run": "other"})


DAMAGE = {"flipped": flipped, "cut": cut, "of another training": of_another_training}


@pytest.fixture
def follow(monkeypatch, capsys):
    """follow(message): run the command that a message names; (exit code, what it said).

    In this process, which holds the run: another one would refuse to disturb it.
    """

    def run(message: str) -> tuple[int, str]:
        found = re.search(r"`python launch/train\.py ([^`]+)`", message)
        assert found, message
        monkeypatch.setattr(sys, "argv", ["train.py", *found[1].split()])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)}
        try:
            return main(), capsys.readouterr().err
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    return run


def plans(layout) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in layout.folder.parent.glob("plan-*.json")}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_best_is_refused_with_a_remedy_that_makes_it_again(finished, follow, caplog, name):
    layout, before = finished.layout, plans(finished.layout)
    recorded = read_status(layout).best_sha256
    DAMAGE[name](layout.best)
    with pytest.raises(CheckpointError) as caught:
        job_of(CheckpointRequest(layout.best))
    found = sha256_file(layout.best)
    assert f"found sha256 {found[:12]}..., but status.json recorded sha256 {recorded[:12]}..." in str(caught.value)
    assert execute_job(finished.job(stage="eval"), StopFlag()) == 2
    assert f"found sha256 {found[:12]}" in read_status(layout).reason
    assert follow(str(caught.value))[0] == 0
    assert "it is made again from" in caplog.text
    assert sha256_file(layout.best) == read_status(layout).best_sha256 == recorded
    assert plans(layout) == before, "the plan of its sweep stays"
    assert job_of(CheckpointRequest(layout.best)).checkpoint == layout.best


def test_a_missing_best_is_made_again_by_the_next_job(finished):
    recorded = read_status(finished.layout).best_sha256
    finished.layout.best.unlink()
    assert execute_job(finished.job(), StopFlag()) == 0
    assert sha256_file(finished.layout.best) == read_status(finished.layout).best_sha256 == recorded


def test_without_the_resume_file_of_its_epoch_the_remedy_is_to_train_again(finished, follow):
    layout, (newest, older) = finished.layout, resume_files(finished.layout.checkpoints)
    recorded = read_status(layout).best_sha256
    snapshot = read_resume(newest)
    # As if the first epoch had been the best one, whose resume file is removed in a longer training.
    state = snapshot["state"] | {"stopping": snapshot["state"]["stopping"] | {"best_epoch": 0}}
    save_resume(newest, snapshot | {"state": state}, keep=2)
    older.unlink()
    flipped(layout.best)
    with pytest.raises(CheckpointError) as caught:
        job_of(CheckpointRequest(layout.best))
    code, said = follow(str(caught.value))
    assert code == 2
    assert "no resume file of epoch 1 is left to make it again: train again from the start with `python" in said
    assert follow(said)[0] == 0
    assert sha256_file(layout.best) == read_status(layout).best_sha256 == recorded


@pytest.mark.parametrize("name", DAMAGE)
def test_a_training_that_continues_makes_its_damaged_best_again(toy, stopped_folder, name):
    """Damage before the end of a training: nothing has recorded a digest of the file but itself."""
    from fixtures.points import resolve_point

    shutil.copytree(stopped_folder / "runs", toy.folder / "runs")
    point = resolve_point("module.visualize=false")
    whole = sha256_file(point.layout.best)
    if name == "of another training":
        point.layout.best.unlink()
    else:
        DAMAGE[name](point.layout.best)
    at_begin = []
    original = StopFlag()

    class Looks(StopFlag):
        """Asked before the first step, when best.pt must be whole again."""

        @property
        def requested(self):
            at_begin.append(sha256_file(point.layout.best))
            return original.requested

    point.train(Looks())
    assert at_begin[0] == whole
