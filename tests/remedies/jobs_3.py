"""Remedies of submissions, jobs and the local pool, and of processes that do not meet."""

import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.files import write_json
from sam2ft.distributed.launcher_environment import LauncherEnvironment
from sam2ft.distributed.rendezvous import RendezvousError, rendezvous
from sam2ft.jobs.job_file import read_job_file
from sam2ft.slurm import sbatch
from sam2ft.slurm.lookup import SubmissionError
from sam2ft.sweeps import sweep as sweep_module
from sam2ft.sweeps.local.pool import LocalTask, Pool
from sam2ft.sweeps.submit.records import records_of
from tests.fixtures.file_sets import spoil
from tests.fixtures.workplace import CPU, planned_runs
from tests.remedies.conftest import Desk, refusal
from tests.remedies.registry import remedy
from tests.sweeps.submit.test_submit import plan_of


@remedy("try again", of="another launcher is submitting")
def another_launcher_that_submits(slurm: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sbatch, "_LOCK_WAIT_S", 0.1)
    plan = plan_of(planned_runs(2))
    with sbatch.submission_lock(slurm.layout), pytest.raises(SubmissionError) as refused:
        slurm.sweep(plan)
    assert slurm.jobs == []
    slurm.sweep(plan)
    assert slurm.jobs
    return str(refused.value)


def _end(slurm: Any) -> None:
    """Let all jobs end."""
    slurm.remove(*(job for job, _, _ in slurm.jobs))


@remedy("submit again with launch/sweep.py")
def a_job_file_that_is_damaged(slurm: Any) -> str:
    plan, shown = plan_of(planned_runs(2)), ""
    known: set[Path] = set()
    changes = (spoil, lambda path: path.write_text("{}"), lambda path: write_json(path, {"version": 1}), spoil)
    for change in changes:
        slurm.sweep(plan)
        new = {path for path in slurm.layout.submissions.rglob("*/*.json") if path not in known}
        known |= new
        for path in new:
            assert read_job_file(path).experiment.endswith("toy")
            change(path)
            shown += refusal(lambda path=path: read_job_file(path))
        assert new, "a submission has job files of its own"
        _end(slurm)
    return shown


@remedy("wait until none of its jobs is in the queue")
def a_record_of_a_submission_that_is_damaged(slurm: Any) -> str:
    plan, path, shown = plan_of(planned_runs(3)), slurm.layout.submission(1), ""
    slurm.sweep(plan)
    for content in ("{", '{"version": 3}', "[]"):
        path.write_text(content)
        shown += refusal(lambda: slurm.sweep(plan))
        # The scripts have the names of the jobs, by which the queue is asked.
        assert {script.stem for script in path.with_suffix("").glob("*.sh")} >= set(slurm.calls)
        count = len(slurm.jobs)
        _end(slurm)
        path.unlink()
        slurm.sweep(plan)
        assert len(slurm.jobs) > count
        assert [record.number for record in records_of(slurm.layout)] == [1]
    return shown


@remedy("see {}", of="ended with code")
def a_run_that_fails_here(toy: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    original = sweep_module._task

    def failing(*given: Any) -> LocalTask:
        return replace(original(*given), command=[sys.executable, "-SIc", "raise SystemExit('what went wrong')"])

    monkeypatch.setattr(sweep_module, "_task", failing)
    monkeypatch.setattr(sweep_module, "Pool", Pool)
    done = desk.run("launch/sweep.py toy.yaml --local 1 --set experiment.baseline=false")
    assert done.code == 1
    shown = " ".join(done.text.split())
    folder = Path(shown.partition("ended with code 1; see ")[2].split()[0])
    assert any("what went wrong" in path.read_text() for path in folder.iterdir())
    return shown


def _met(folder: Path) -> dict[int, Any]:
    """Store or error of two tasks of a Slurm step."""
    found: dict[int, Any] = {}

    def run(rank: int) -> None:
        launcher = LauncherEnvironment(rank, 2, rank, "0-77-0-0", places=lambda: ("node n0", "node n1"))
        try:
            found[rank] = rendezvous(launcher, folder, 1, lambda: False)
        except RendezvousError as error:
            found[rank] = error

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return found


@remedy("set MASTER_ADDR in slurm.setup of the site to an address of rank 0 that they can reach")
def a_node_whose_address_the_others_cannot_reach(slurm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr("sam2ft.distributed.rendezvous.own_address", lambda: "256.0.0.1")
        shown = str(_met(tmp_path)[1])
    line = "export MASTER_ADDR=127.0.0.1"
    site = slurm.site.model_copy(update={"slurm": slurm.site.slurm.model_copy(update={"setup": [line]})})
    slurm.sweep(plan_of(planned_runs(2, replace(CPU, nodes=2))), site=site)
    script = slurm.script(slurm.jobs[0][0])
    assert 0 < script.index(line) < script.index("srun ")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "n[0-1]")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    found = _met(tmp_path)
    found[1].set("key", "value")
    assert found[0].get("key") == b"value"
    return shown
