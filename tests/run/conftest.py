"""One point of the toy experiment: what a job would be given, and a run of it that is done."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sam2ft.cluster.plan import make_plan, write_configs
from sam2ft.config.experiment import load_experiment
from sam2ft.config.schema import Experiment
from sam2ft.core.errors import StopRequestedError
from sam2ft.core.events import StepDone
from sam2ft.core.layout import EvalLayout, ExperimentLayout, RunLayout
from sam2ft.engine.interrupt import StopFlag
from sam2ft.run.claim import Attempt, claim
from sam2ft.run.eval_run import EvalOutcome, evaluate
from sam2ft.run.job import PointJob, work_on
from sam2ft.run.keeping import CheckpointKeeper
from sam2ft.run.planned import PlannedRun, save_plan
from sam2ft.run.preflight import resolve
from sam2ft.run.resources import resources_of
from sam2ft.run.train_run import TrainOutcome, train


@dataclass(frozen=True)
class Point:
    """The only point of toy.yaml, resolved in the working directory."""

    planned: PlannedRun
    experiment: Experiment

    @property
    def layout(self) -> RunLayout:
        return ExperimentLayout.of("toy").run(self.planned.run_id)

    @property
    def eval_id(self) -> str:
        return self.planned.eval_ids[0]

    @property
    def evaluation(self) -> EvalLayout:
        return self.layout.evaluation(self.eval_id)

    def attempt(self) -> Attempt:
        """A new attempt that holds the run."""
        attempt = Attempt.current()
        claim(self.layout, attempt)
        return attempt

    def train(self, stop: Any = None, *, fresh: bool = False) -> TrainOutcome:
        planned, stop = self.planned.resources.world_size, stop or StopFlag()
        return train(self.experiment, self.layout, self.attempt(), stop=stop, fresh=fresh, planned_world_size=planned)

    def evaluate(self, stop: Any = None) -> EvalOutcome:
        best, stop = self.layout.best, stop or StopFlag()
        return evaluate(self.experiment, self.layout, self.attempt(), checkpoint=best, eval_id=self.eval_id, stop=stop)

    def job(self, **changes: Any) -> PointJob:
        return PointJob(self.layout, self.planned, **({"stage": "train_eval", "attempt": Attempt.current()} | changes))


def resolve_point(*overrides: str) -> Point:
    """Plan toy.yaml of the working directory and write what a job reads."""
    resolved = resolve(load_experiment(Path("toy.yaml"), overrides), fill=resources_of)
    layout = ExperimentLayout.of("toy")
    save_plan(layout, make_plan(resolved))
    write_configs(layout, resolved, [run.planned.index for run in resolved.runs])
    return Point(resolved.runs[0].planned, resolved.runs[0].experiment)


@pytest.fixture
def point(toy: Any) -> Point:
    """The toy's point with nothing done yet; without pictures, which cost more than the training."""
    return resolve_point("module.visualize=false")


@pytest.fixture
def point_with(toy: Any) -> Callable[..., Point]:
    """point_with("key=value", ...): the toy's point with overrides."""
    return resolve_point


@pytest.fixture(scope="session")
def finished_folder(toy_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which the toy was trained and evaluated in one go, as a job does it."""
    folder = Path(shutil.copytree(toy_parts, tmp_path_factory.mktemp("finished") / "toy"))
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert work_on(resolve_point().job(), StopFlag()) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def finished(toy: Any, finished_folder: Path) -> Point:
    """The toy's point, trained and evaluated; a copy that a test may spoil."""
    shutil.copytree(finished_folder / "runs", toy.folder / "runs")
    return resolve_point()


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """at_step(k, action): call `action` right after optimizer step k; at_step(0, ...) takes it back."""
    original = CheckpointKeeper.on_step

    def install(step: int, action: Callable[[], None]) -> None:
        def on_step(self: CheckpointKeeper, event: StepDone, state: Any) -> None:
            original(self, event, state)
            if event.step == step:
                action()

        monkeypatch.setattr(CheckpointKeeper, "on_step", on_step)

    return install


@pytest.fixture(scope="session")
def stopped_folder(toy_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which the toy was told to stop after step 7: resume files of steps 5 and 7."""
    folder = Path(shutil.copytree(toy_parts, tmp_path_factory.mktemp("stopped") / "toy"))
    stop, original = StopFlag(), CheckpointKeeper.on_step

    def on_step(self: CheckpointKeeper, event: StepDone, state: Any) -> None:
        original(self, event, state)
        if event.step == 7:
            stop.handle(signal.SIGTERM, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(CheckpointKeeper, "on_step", on_step)
        with pytest.raises(StopRequestedError, match="after step 7"):
            resolve_point("module.visualize=false").train(stop)
    return folder


@pytest.fixture
def stopped(toy: Any, stopped_folder: Path) -> Point:
    """The toy's point as it was stopped; a copy that a test may spoil."""
    shutil.copytree(stopped_folder / "runs", toy.folder / "runs")
    return resolve_point("module.visualize=false")
