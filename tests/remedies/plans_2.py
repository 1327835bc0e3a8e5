"""Remedies of plans, records and other files of an experiment that cannot be used any more."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.digests import verified_files
from sam2ft.core.digests.verified_files import read_sealed_json, write_sealed_json
from sam2ft.core.files import write_text
from sam2ft.jobs.job import PointJob
from sam2ft.jobs.preflight.preflight import resolve
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.attempt.restarts import NotRestartableError, refuse_idle
from sam2ft.runs.attempt.status import status_at_start
from sam2ft.runs.identity_file import read_identity
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import load_plan, save_plan
from sam2ft.runs.provenance import recorded_attempts
from sam2ft.runs.resources.resources import resources_of
from sam2ft.sweeps.plan.plan import make_plan, write_configs
from sam2ft.sweeps.submit.records import Record, RecordedReport, next_number, records_of, write_record
from sam2ft.training.checkpoints.checkpoint import resume_files
from tests.fixtures.file_sets import spoil
from tests.remedies import cluster
from tests.remedies.conftest import Desk, refusal
from tests.remedies.registry import remedy

Command = Callable[..., str]
AGAIN = "plan again with launch/sweep.py"


@remedy("plan again", of="plan of version {}", case=lambda value: {**value, "version": 99})
@remedy(AGAIN, of="not a plan ({})", case=lambda value: {**value, "runs": [{}]})
@remedy(
    AGAIN,
    of="is not the name of a folder",
    case=lambda value: {**value, "runs": [{**run, "run_id": "../other"} for run in value["runs"]]},
)
@remedy(AGAIN, of="its content was changed", case=lambda value: {**value, "fresh": True})
def a_plan_of_another_content(toy: Any, desk: Desk, case: Callable[[Any], Any]) -> str:
    """Its own digest is right: another program wrote it."""
    layout = ExperimentLayout.of("toy")
    plan = make_plan(resolve(load_experiment(Path("toy.yaml")), fill=resources_of))
    path = save_plan(layout, plan)
    good = path.read_bytes()
    write_sealed_json(path, case(read_sealed_json(path)))
    shown = refusal(lambda: load_plan(layout, plan.plan_id))
    save_plan(layout, plan)  # what launch/sweep.py does with the plan that it makes
    assert load_plan(layout, plan.plan_id) == plan
    assert path.read_bytes() == good
    assert "new" in desk.works("launch/status.py toy.yaml")
    return shown


# --- files of a run -------------------------------------------------------------------------------------------------


@remedy("move it away", of="the next attempt of the run writes it again", case="identity", slow=True)
@remedy("move it away", of="the next attempt of the run puts it aside", case="provenance", slow=True)
def a_file_of_a_run_that_is_damaged(finished: Any, desk: Desk, case: str) -> str:
    path: Path = getattr(finished.layout, case)
    read = {"identity": read_identity, "provenance": recorded_attempts}[case]
    good = path.read_bytes()
    for content in (b"", good[:-20], b"[]"):
        path.write_bytes(content)
        shown = refusal(lambda: read(finished.layout))
        path.rename(path.with_suffix(".away"))
        assert not read(finished.layout)
        path.write_bytes(good)
        assert read(finished.layout)
    path.unlink()
    desk.works(f"launch/aggregate.py {finished.layout.folder} --out report")
    assert Path("report/volume.csv").is_file()
    return shown


@remedy("remove best.pt to train again", slow=True)
def a_status_that_is_lost_with_the_resume_files(finished: Any, trains: Command) -> str:
    layout = finished.layout
    for path in resume_files(layout.checkpoints):
        path.unlink()
    spoil(layout.status)
    shown = refusal(lambda: status_at_start(layout))
    assert trains(code=2)
    layout.best.unlink()
    trains()
    assert json.loads(layout.status.read_text())["trained"] is True
    assert layout.best.is_file()
    return shown


@remedy("or --force", of="no resume file is valid", slow=True)
@remedy("launch/sweep.py", of="no resume file is valid", slow=True)
def no_resume_file_is_whole_in_a_sweep(stopped: Any, trains: Command, sweeps: Command) -> str:
    for path in resume_files(stopped.layout.checkpoints):
        path.write_bytes(path.read_bytes()[:-1000])
    shown = trains(code=2)
    sweeps("--force", "--set", "module.visualize=false")
    assert json.loads(stopped.layout.status.read_text())["trained"] is True
    return shown


remedy("make room", of="or wait until the file system", case=cluster.Ended("failed", "disk"),
       slow=True)(cluster.a_run_that_ended_early)  # fmt: skip


@remedy("increase its time limit or the stop lead", slow=True)
def restarts_without_progress(stopped: Any, sweeps: Command) -> str:
    with pytest.raises(NotRestartableError) as refused:
        refuse_idle(2)
    value = read_sealed_json(stopped.layout.status)
    failed = {"state": "failed", "class": refused.value.failure_class, "reason": str(refused.value)}
    write_sealed_json(stopped.layout.status, value | failed)
    assert "0 to submit" in sweeps()
    assert "after step 7" in sweeps("--retry", "no_progress", "--set", "resources.hours=2")
    assert json.loads(stopped.layout.status.read_text())["state"] == "done"
    return str(refused.value)


# --- files of an experiment -----------------------------------------------------------------------------------------


@remedy("remove it", of="has their scripts")
def a_damaged_record_of_a_submission(slurm: Any) -> str:
    layout = slurm.layout
    for content in ("", "{}", '{"version": 99}'):
        write_record(layout, Record(1, "0123456789ab", "here", "", (), RecordedReport("r", "19")))
        layout.submission(1).write_text(content)
        shown = refusal(lambda: records_of(layout))
        layout.submission(1).unlink()
        assert records_of(layout) == ()
        assert next_number(layout) == 1
    return shown


@remedy("not used, `--calibrate` measures it again", slow=True)
@remedy("measure it with --calibrate", slow=True)
def a_damaged_calibration(toy: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    """With a GPU, so that there are GPU-hours whose number is not known."""
    monkeypatch.setattr("sam2ft.sweeps.sweep.visible_gpus", lambda *_: ("0",))
    monkeypatch.setattr(verified_files, "_TOLD", set())
    layout = ExperimentLayout.of("toy")
    dry = "launch/sweep.py toy.yaml --dry-run --local 1 --max-gpu-hours 100"
    for number, content in enumerate(("{}", "", '{"stage": "train", "measured": {"speed": 1}}')):
        write_text(layout.calibrations / f"{number}.json", content)
    shown = " ".join(desk.refused(dry).split())
    desk.works("launch/sweep.py toy.yaml --calibrate --local 1")
    desk.works(dry)
    return shown


@remedy("restore it", of="changed after the baseline was planned", case="restore", slow=True)
@remedy(AGAIN, of="changed after the baseline was planned", case="plan", slow=True)
def weights_of_a_baseline_that_changed(toy: Any, case: str) -> str:
    from tests.jobs.test_damaged_files import run

    good = toy.weights.read_bytes()

    def planned() -> PointJob:
        resolved = resolve(load_experiment(Path("toy.yaml"), ["experiment.baseline=true"]), fill=resources_of)
        baseline = next(one for one in resolved.runs if one.planned.baseline)
        layout = ExperimentLayout.of("toy")
        write_configs(layout, resolved, [baseline.planned.index])
        return PointJob(layout.run(baseline.planned.run_id), baseline.planned, "eval", Attempt.current())

    first = planned()
    spoil(toy.weights)
    code, shown = run(first)
    assert code == 2
    if case == "restore":
        toy.weights.write_bytes(good)
        again = replace(first, attempt=Attempt.current())
    else:
        again = planned()
        assert again.layout.folder != first.layout.folder
    code, log = run(again)
    assert code == 0, log
    assert list(again.layout.evaluations.glob("*/_SUCCESS"))
    return shown
