"""Remedies of trainings and their runs: checkpoints, identities, plans, claims."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.digests.verified_files import read_sealed_json, write_sealed_json
from sam2ft.core.files import read_json, write_json
from sam2ft.data.store.store import index_path
from sam2ft.jobs.job import main as job_main
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.training.checkpoints.checkpoint import resume_files
from tests.jobs.test_refusals import change_image, move
from tests.remedies.conftest import Desk
from tests.remedies.registry import remedy

Command = Callable[..., str]


def _best(layout: RunLayout) -> bytes:
    assert json.loads(layout.status.read_text())["trained"] is True
    return layout.best.read_bytes()


@remedy("--fresh starts again", slow=True)
def a_trained_point(finished: Any, trains: Command) -> str:
    before = finished.layout.best.stat().st_mtime_ns
    shown = trains()
    assert finished.layout.best.stat().st_mtime_ns == before
    trains("--fresh")
    assert finished.layout.best.stat().st_mtime_ns > before
    return shown


@remedy("next        python launch/eval.py --ckpt {}")
@remedy("call the same command again to continue")
def a_training_that_was_stopped(toy: Any, trains: Command, desk: Desk, at_step: Any) -> str:
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped = desk.run("launch/train.py toy.yaml --set module.visualize=false")
    assert stopped.code != 0
    at_step(0, lambda: None)
    shown = trains()
    (run,) = [RunLayout(path.parent) for path in Path("runs/toy").glob("*/claim.json")]
    assert "after step 3" in shown
    _best(run)
    command = next(line for line in shown.splitlines() if line.startswith("next"))
    assert "test" in desk.works(command.split(maxsplit=2)[2])
    assert list(run.folder.glob("eval/*/_SUCCESS"))
    return stopped.text + shown


@remedy("choose one with --point: {}")
def an_experiment_of_several_points(toy: Any, trains: Command) -> str:
    toy.write(more="sweep:\n  grid: {module.num_epochs: [1, 2]}\n")
    shown = trains(code=2)
    number = shown.partition("--point: ")[2].split()[0]
    trains("--point", number)
    assert list(Path("runs/toy").glob("*/checkpoints/best.pt"))
    return shown


@remedy("start again with --fresh", of="no resume file is valid", slow=True)
@remedy("launch/train.py", of="no resume file is valid", slow=True)
def no_resume_file_is_whole(stopped: Any, trains: Command) -> str:
    for path in resume_files(stopped.layout.checkpoints):
        path.write_bytes(path.read_bytes()[:-1000])
    shown = trains(code=2)
    trains("--fresh")
    _best(stopped.layout)
    return shown


ANEW = "^remove it to continue without it"


def _foreign(stopped: Any, point_with: Any) -> RunLayout:
    """A run with the resume files of another one."""
    other = point_with("module.visualize=false", "module.optimizer.lr=0.01")
    shutil.copytree(stopped.layout.checkpoints, other.layout.checkpoints)
    return other.layout  # type: ignore[no-any-return]


WAITING = [sys.executable, "-c", "import sys; sys.stdin.read()"]
OTHER = ("--set", "module.optimizer.lr=0.01")


@remedy("remove it to continue without it", of=ANEW, slow=True)
@remedy("start again with --fresh", of=ANEW, slow=True)
@remedy("launch/train.py", of=ANEW, slow=True)
@remedy("or --force", of=ANEW, slow=True)
@remedy("launch/sweep.py", of=ANEW, slow=True)
def resume_files_of_another_run(stopped: Any, point_with: Any, trains: Command, sweeps: Command, tmp_path: Path) -> str:
    layout = _foreign(stopped, point_with)
    shutil.copytree("runs", tmp_path / "then")

    def back() -> None:
        shutil.rmtree("runs")
        shutil.copytree(tmp_path / "then", "runs")

    shown = trains(*OTHER, code=2)
    for path in resume_files(layout.checkpoints):
        path.unlink()
        if resume_files(layout.checkpoints):
            trains(*OTHER, code=2)
    trains(*OTHER)
    _best(layout)
    back()
    trains("--fresh", *OTHER)
    _best(layout)
    back()
    sweeps("--force", *OTHER)
    _best(layout)
    return shown


def _job(desk: Desk, monkeypatch: pytest.MonkeyPatch, stage: str) -> tuple[int, str]:
    """The only run of the newest plan, as the local pool and Slurm start it."""
    monkeypatch.setattr("sam2ft.jobs.job.redirect_output", lambda log: None)
    layout = ExperimentLayout.of("toy")
    plan = max(layout.folder.glob("plan-*.json"), key=lambda path: path.stat().st_mtime_ns)
    desk.capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        job_main(["runs/toy", plan.stem.removeprefix("plan-"), "0", stage])
    return int(ended.value.code or 0), desk.capfd.readouterr().err


@remedy("restore it to continue", slow=True)
@remedy("start launch/sweep.py or launch/train.py again: the current state gives the run {}")
def a_store_that_changed_under_a_run(
    stopped: Any, toy: Any, desk: Desk, trains: Command, sweeps: Command, monkeypatch: pytest.MonkeyPatch
) -> str:
    whole = shutil.copytree(toy.store, "whole")
    move(toy.store, "a", "test")
    code, shown = _job(desk, monkeypatch, "train")
    assert code == 2
    trains()
    named = shown.rpartition("gives the run ")[2].strip()
    _best(RunLayout(Path("runs/toy") / named))
    sweeps()
    shutil.rmtree(toy.store)
    shutil.copytree(whole, toy.store)
    trains()
    _best(stopped.layout)
    return shown


@remedy("plan again with launch/sweep.py or launch/train.py")
def a_store_that_changed_before_the_run_began(
    point: Any, toy: Any, desk: Desk, trains: Command, sweeps: Command, monkeypatch: pytest.MonkeyPatch
) -> str:
    change_image(toy.store, "b")
    code, shown = _job(desk, monkeypatch, "train")
    assert code == 2
    trains()
    sweeps()
    assert len(list(Path("runs/toy").glob("*/eval/*/_SUCCESS"))) == 1
    return shown


@remedy("restore it", of="this evaluation was planned for", slow=True)
@remedy("keep it", of="this evaluation was planned for")
@remedy("start launch/sweep.py again with --retry error")
def a_test_volume_that_changed(
    finished: Any, toy: Any, desk: Desk, sweeps: Command, monkeypatch: pytest.MonkeyPatch
) -> str:
    whole = shutil.copytree(toy.store, "whole")
    shutil.rmtree(finished.evaluation.folder)
    change_image(toy.store, "e")
    code, shown = _job(desk, monkeypatch, "train_eval")
    assert code == 2
    sweeps("--retry", "error")
    named = shown.rpartition("gives the evaluation ")[2].partition(")")[0]
    assert finished.layout.evaluation(named).success.is_file()
    change_image(toy.store, "f")
    code, _ = _job(desk, monkeypatch, "train_eval")
    assert code == 2
    shutil.rmtree(toy.store)
    shutil.copytree(whole, toy.store)
    sweeps("--retry", "error")
    assert finished.evaluation.success.is_file()
    return shown


@remedy("use --fresh to start again", of="written with another module.ema", slow=True)
@remedy("use --fresh to start again", of="is of another model or optimizer", slow=True)
@remedy("start again with --fresh", of="was written in tf32", slow=True)
def a_resume_file_of_another_kind(stopped: Any, trains: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    from sam2ft.training.trainer import Trainer

    original, spoil = (
        Trainer.restore,
        [
            lambda snapshot: {**snapshot, "average": {}},
            lambda snapshot: {**snapshot, "model": {}},
            lambda snapshot: {**snapshot, "precision": "tf32"},
        ],
    )
    shown = ""
    for change in spoil:
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "restore", lambda self, snapshot, change=change: original(self, change(snapshot)))
            shown += trains(code=2)
            trains("--fresh", "--set", "module.num_epochs=1")
    trains("--fresh")
    _best(stopped.layout)
    return shown


# --- plans ----------------------------------------------------------------------------------------------------------


@remedy("run launch/sweep.py first")
def an_experiment_without_a_plan(toy: Any, desk: Desk, sweeps: Command) -> str:
    Path("runs/toy").mkdir(parents=True)
    shown = desk.refused("launch/status.py toy.yaml")
    sweeps()
    desk.works("launch/status.py toy.yaml")
    return shown


def _damage_plan(change: Callable[[Any], Any]) -> None:
    (path,) = Path("runs/toy").glob("plan-*.json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@remedy("launch/sweep.py makes a new one and keeps finished runs", slow=True)
@remedy("plan again with launch/sweep.py, which writes the same plan again", slow=True)
def a_plan_that_cannot_be_read(toy: Any, desk: Desk, sweeps: Command) -> str:
    sweeps()
    (best,) = Path("runs/toy").glob("*/checkpoints/best.pt")
    before, shown = best.stat().st_mtime_ns, ""
    for change in (
        lambda value: {**value, "version": 99},
        lambda value: {**value, "runs": [{}]},
        lambda value: {**value, "fresh": True},
    ):
        _damage_plan(change)
        shown += desk.refused("launch/status.py toy.yaml")
        sweeps()
        assert "1 done" in desk.works("launch/status.py toy.yaml")
        assert best.stat().st_mtime_ns == before
    return shown


# --- claims ---------------------------------------------------------------------------------------------------------


@remedy("stop that process", of="is working on it; stop that process")
@remedy("wait for its end", of="is working on it; stop that process")
def another_process_that_trains(stopped: Any, trains: Command) -> str:
    shown = ""
    for ends_itself in (False, True):
        with subprocess.Popen(WAITING, stdin=subprocess.PIPE) as other:
            mine = Attempt.current()
            write_json(stopped.layout.claim, {**mine.to_json(), "pid": other.pid, "birth": "", "restarts": {}})
            shown = trains(code=1)
            if not ends_itself:
                other.terminate()
        shutil.copytree("runs", f"runs-{ends_itself}")
        trains()
        _best(stopped.layout)
        shutil.rmtree("runs")
        shutil.copytree(f"runs-{ends_itself}", "runs")
    return shown


@remedy("wait for its end", of="working on this run")
@remedy("name another folder with --out", of="working on this run")
def another_process_while_evaluating(finished: Any, desk: Desk, tmp_path: Path) -> str:
    with subprocess.Popen(WAITING, stdin=subprocess.PIPE) as other:
        mine = Attempt.current()
        write_json(finished.layout.claim, {**mine.to_json(), "pid": other.pid, "birth": "", "restarts": {}})
        status = read_json(finished.layout.status)
        busy = {**status, "state": "training", "attempt": json.loads(finished.layout.claim.read_text())}
        write_sealed_json(finished.layout.status, busy)
        shown = desk.refused(f"launch/eval.py --ckpt {finished.layout.best} --set eval.bbox_shift=3")
        desk.works(f"launch/eval.py --ckpt {finished.layout.best} --out elsewhere")
        assert Path("elsewhere/_SUCCESS").is_file()
    write_sealed_json(finished.layout.status, status)
    desk.works(f"launch/eval.py --ckpt {finished.layout.best} --set eval.bbox_shift=3")
    return shown


# --- stores of an experiment ----------------------------------------------------------------------------------------


@remedy("use this name as key")
def a_store_under_another_name(toy: Any, desk: Desk) -> str:
    toy.write("  toy: {store", "  other: {store")
    shown = desk.refused("launch/sweep.py toy.yaml --dry-run --local 1")
    toy.write()
    desk.works("launch/sweep.py toy.yaml --dry-run --local 1")
    return shown


@remedy("leave it out", of="datamodule.num_classes")
@remedy("correct it", of="datamodule.num_classes")
def a_number_of_classes_that_is_wrong(toy: Any, desk: Desk) -> str:
    for number in (1, 3, 40):
        toy.write("num_workers: 0", f"num_workers: 0, num_classes: {number}")
        shown = desk.refused("launch/sweep.py toy.yaml --dry-run --local 1")
    for right in ("num_workers: 0", "num_workers: 0, num_classes: 2"):
        toy.write("num_workers: 0", right)
        desk.works("launch/sweep.py toy.yaml --dry-run --local 1")
    return shown


@remedy("prepare them with the same label table")
def stores_with_different_labels(toy: Any, desk: Desk) -> str:
    from tests.conftest import write_toy_store

    def add(labels: dict[int, str]) -> None:
        write_toy_store(Path("data/second"), labels)
        path = index_path(Path("data/second"))
        write_sealed_json(path, {**read_sealed_json(path), "dataset": "second"})

    add({1: "disc", 2: "rod"})
    toy.write("  toy: {store: data/toy}", "  toy: {store: data/toy}\n  second: {store: data/second}")
    shown = desk.refused("launch/sweep.py toy.yaml --dry-run --local 1")
    shutil.rmtree("data/second")
    add({1: "disc", 2: "bar"})
    desk.works("launch/sweep.py toy.yaml --dry-run --local 1")
    return shown
