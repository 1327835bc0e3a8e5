"""How often a run goes on by itself: the job of test_job, with a training that is told what to do."""

import signal
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.errors import StopRequestedError
from sam2ft.core.files import read_json, write_json, write_text
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.jobs.job import PointJob, execute_job
from sam2ft.runs.attempt.claim import MAX_RESTARTS, Attempt
from sam2ft.runs.attempt.restarts import idle_before, progress_of
from sam2ft.runs.attempt.status import RunStatus, read_status
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import PlannedPoint, PlannedRun, Resources

CONFIG = """\
experiment: {name: toy}
dataset: {toy: {store: data/toy}}
module: {sam2_model_cfg: sam2_nano, num_epochs: 1}
"""
EVALS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")
RESOURCES = Resources(1, 1, 0, 1, 1.0, 1.0)
RUN = PlannedRun(
    index=0,
    run_id="toy-0123456789abcdef",
    stage="train_eval",
    baseline=False,
    points=tuple(PlannedPoint("toy", (), eval_id) for eval_id in EVALS),
    resources=RESOURCES,
    eval_resources=RESOURCES,
)


class Allocation:
    """One Slurm job after the other, whose work does what `work` says and is told to stop then."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.layout = ExperimentLayout(folder).run(RUN.run_id)
        write_text(self.layout.config, CONFIG)
        self.work: Callable[[], None] = lambda: None
        self._patch = monkeypatch
        for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_STEP_ID", "RANK", "WORLD_SIZE", MAX_RESTARTS):
            monkeypatch.delenv(name, raising=False)
        for domain, function in {"training": "train", "evaluation": "evaluate"}.items():
            fake = types.ModuleType(f"sam2ft.{domain}.run")
            setattr(fake, function, self._until_stopped)
            monkeypatch.setitem(sys.modules, fake.__name__, fake)

    def _until_stopped(self, *_: Any, **__: Any) -> None:
        self.work()
        self._stop.handle(self._told, None)
        raise StopRequestedError("stopped as asked after step 7")

    def run(
        self,
        restart: int,
        *,
        job: str = "20",
        stage: Any = "train_eval",
        limit: int | None = 20,
        told: signal.Signals = signal.SIGUSR2,
    ) -> int:
        self._patch.setenv("SLURM_JOB_ID", job)
        self._patch.setenv("SLURM_RESTART_COUNT", str(restart))
        if limit is not None:
            self._patch.setenv(MAX_RESTARTS, str(limit))
        self._told, self._stop = told, StopFlag()
        return execute_job(PointJob(self.layout, RUN, stage, Attempt.current()), self._stop)

    @property
    def ended(self) -> tuple[str, str | None, bool]:
        status = read_status(self.layout)
        assert status is not None
        return status.state, status.failure_class, self.layout.requeue.exists()

    def save(self, step: int) -> None:
        write_text(self.layout.resume(step), "")


CONTINUED = ("stopped", None, True)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Allocation:
    return Allocation(tmp_path / "toy", monkeypatch)


def test_a_stop_is_continued_until_no_restart_is_left(job: Allocation) -> None:
    for restart in range(2):
        job.work = lambda restart=restart: job.save(10 * (restart + 1))
        assert job.run(restart, limit=2) == 75
        assert job.ended == CONTINUED
    job.work = lambda: job.save(30)
    assert job.run(2, limit=2) == 1
    assert job.ended == ("failed", "timeout", False)
    assert "no restart left (2 of 2); saved" in read_status(job.layout).reason
    # The next submission is another job, with restarts of its own.
    assert job.run(0, job="21", limit=2) == 75


def test_a_cancelled_or_preempted_job_has_not_run_out_of_time_on_its_last_restart(job: Allocation) -> None:
    """The batch script asks Slurm whether it may go on; restarts that are used up end it there."""
    job.work = lambda: job.save(10)
    assert job.run(2, limit=2, told=signal.SIGTERM) == 75
    assert job.ended == CONTINUED


def test_without_a_limit_it_goes_on(job: Allocation) -> None:
    for restart in range(30):
        job.work = lambda restart=restart: job.save(restart + 1)
        assert job.run(restart, limit=None) == 75


def test_two_restarts_without_a_new_step_are_enough(job: Allocation) -> None:
    """The first allocation is no restart: it may have been spent on reading data."""
    job.work = lambda: job.save(7)
    assert [job.run(0), job.run(1)] == [75, 75]
    assert job.ended == CONTINUED
    assert job.run(2) == 1
    assert job.ended == ("failed", "no_progress", False)
    assert read_status(job.layout).reason.startswith(
        "2 restarts in a row without a new step or a newly evaluated volume"
    )


def test_more_checkpoints_let_a_run_go_on(job: Allocation) -> None:
    """Every allocation trains 10 steps: saved every 20 steps they are lost each time, saved every 4 most are kept."""

    def trains(every: int) -> None:
        first = max((int(path.stem) for path in job.layout.checkpoints.glob("*.safetensors")), default=0)
        for step in range(first + 1, first + 11):
            if step % every == 0:
                job.save(step)

    job.work = lambda: trains(20)
    assert [job.run(0), job.run(1), job.run(2)] == [75, 75, 1]
    assert "save more checkpoints" in read_status(job.layout).reason
    job.work = lambda: trains(4)
    assert [job.run(restart, job="21") for restart in range(6)] == [75] * 6
    assert job.ended == CONTINUED


def test_a_new_step_forgives_the_restarts_before(job: Allocation) -> None:
    steps = {0: 7, 1: 7, 2: 8, 3: 8, 4: 8}
    for restart, step in steps.items():
        job.work = lambda step=step: job.save(step)
        assert job.run(restart) == (1 if restart == 4 else 75)
    assert job.ended == ("failed", "no_progress", False)


def test_attempts_that_were_killed_count_too(job: Allocation) -> None:
    """They said no last word: the next one looks at what they left, and does not even begin."""

    def killed() -> None:
        raise SystemExit

    job.work = killed
    for restart in range(3):
        with pytest.raises(SystemExit):
            job.run(restart)
        assert read_status(job.layout).idle_restarts == max(0, restart - 1)
    job.work = lambda: pytest.fail("begun")
    assert job.run(3) == 1
    assert job.ended == ("failed", "no_progress", False)
    assert job.run(0, job="21", stage="eval") == 2, "another job begins (and finds nothing to evaluate)"


def part(job: Allocation, eval_id: str, subject: str, weights: str) -> None:
    write_json(job.layout.evaluation(eval_id).parts / "toy" / f"{subject}.json", {"checkpoint_sha256": weights})


def trained(job: Allocation, sha256: str) -> None:
    status = RunStatus("training", Attempt.current(), "2026-01-01T00:00:00+00:00", trained=True, best_sha256=sha256)
    write_json(job.layout.status, status.to_json())
    write_text(job.layout.best, "weights")


def test_two_restarts_without_a_newly_finished_volume_are_enough(job: Allocation) -> None:
    trained(job, "w1")
    for restart, subjects in enumerate(["a", "ab", "ab", "ab"]):
        job.work = lambda subjects=subjects: [part(job, EVALS[0], subject, "w1") for subject in subjects]
        assert job.run(restart, stage="eval") == (1 if restart == 3 else 75)
    assert job.ended == ("failed", "no_progress", False)


def test_progress_counts_what_was_made_with_the_weights_that_are_there(job: Allocation) -> None:
    assert progress_of(job.layout, RUN) == (0, 0, 0, 0)
    job.save(7)
    job.save(12)
    trained(job, "w1")
    part(job, EVALS[0], "a", "w1")
    part(job, EVALS[0], "b", "of an earlier training")
    assert progress_of(job.layout, RUN) == (1, 12, 0, 1)
    write_json(job.layout.evaluation(EVALS[0]).success, {"checkpoint_sha256": "w1"})
    part(job, EVALS[1], "a", "w1")
    assert progress_of(job.layout, RUN) == (1, 12, 1, 1)
    write_json(job.layout.evaluation(EVALS[1]).success, {"checkpoint_sha256": "of an earlier training"})
    assert progress_of(job.layout, RUN) == (1, 12, 1, 1)


def test_restarts_of_one_job_alone_are_counted() -> None:
    attempt = Attempt("20", 4, "n1", 5, "2026-01-01T00:00:00+00:00")
    before = RunStatus("training", replace(attempt, restart=3), "", progress=(0, 7, 0, 0), idle_restarts=1)
    assert idle_before(before, attempt, (0, 7, 0, 0)) == 2
    assert idle_before(before, attempt, (0, 8, 0, 0)) == 0
    assert idle_before(before, replace(attempt, job="21"), (0, 7, 0, 0)) == 0
    assert (
        idle_before(replace(before, attempt=replace(attempt, job="local")), replace(attempt, job="local"), (0, 7, 0, 0))
        == 0
    )
    assert idle_before(None, attempt, (0, 7, 0, 0)) == 0
    assert idle_before(replace(before, progress=None), attempt, (0, 7, 0, 0)) == 0, "a status of an older version"


def test_a_status_of_an_older_version_is_read(job: Allocation) -> None:
    job.save(7)
    job.run(0)
    value = read_json(job.layout.status)
    assert value["progress"] == [0, 7, 0, 0]
    new = ("save_s", "peak_memory_gb", "progress", "idle_restarts")
    write_json(job.layout.status, {name: entry for name, entry in value.items() if name not in new})
    status = read_status(job.layout)
    assert (status.save_s, status.peak_memory_gb, status.progress, status.idle_restarts) == (None, None, None, 0)
    assert job.run(1) == 75
