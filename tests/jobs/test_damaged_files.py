"""A job, a status table and a sweep that meet damaged files: nothing finished is lost, and nothing stops other runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.file_sets import file_set, spoil

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.digests import verified_files
from sam2ft.core.errors import UserError
from sam2ft.core.files import sha256_file
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.jobs.job import PointJob, execute_job
from sam2ft.jobs.preflight.preflight import resolve
from sam2ft.report.page.facts import facts_of
from sam2ft.report.request import RunState
from sam2ft.report.tables.coverage import Coverage
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.attempt.log import kept_output
from sam2ft.runs.attempt.status import read_status, update_status
from sam2ft.runs.history import read_history
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import newest_plan, save_plan
from sam2ft.runs.provenance import recorded_attempts
from sam2ft.runs.resources.resources import resources_of
from sam2ft.sweeps.plan.plan import write_configs
from sam2ft.sweeps.state.collect import reconciled_runs_of
from sam2ft.sweeps.state.slurm_snapshot import NOTHING_KNOWN
from sam2ft.sweeps.status.table import show_status
from sam2ft.sweeps.status.why import show_why
from sam2ft.sweeps.submit.records import Record, RecordedReport, next_number, records_of, write_record

pytestmark = pytest.mark.sam2


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified_files, "_TOLD", set())
    monkeypatch.setattr(verified_files, "_UNVERIFIED", {})


def run(job: Any) -> tuple[int, str]:
    with kept_output(job.log):
        code = execute_job(job, StopFlag())
    return code, job.log.read_text()


@pytest.mark.parametrize("name", ["status.json", "claim.json", "provenance.json", "identity.json"])
def test_a_finished_run_with_a_damaged_file_is_started_again_and_ends_as_it_was(finished: Any, name: str) -> None:
    layout = finished.layout
    before, best, table = file_set(layout.folder), sha256_file(layout.best), finished.evaluation.table("volume")
    tables, history = table.read_bytes(), read_history(layout)
    spoil(layout.folder / name)
    code, log = run(finished.job())
    assert code == 0, log
    assert (sha256_file(layout.best), table.read_bytes(), read_history(layout)) == (best, tables, history)
    status = read_status(layout)
    assert (status.state, status.trained, status.best_sha256) == ("done", True, best)
    more = {"status.json": {"status.damaged.json"}, "provenance.json": {"provenance.damaged.json"}}.get(name, set())
    assert file_set(layout.folder) == before | more
    assert recorded_attempts(layout)[-1]["attempt"]["pid"] == status.attempt.pid


def test_a_stopped_training_continues_over_a_damaged_history_and_status(stopped: Any) -> None:
    layout = stopped.layout
    update_status(layout, stopped.attempt(), state="stopped")
    spoil(layout.history)
    spoil(layout.status)
    code, log = run(stopped.job(stage="train"))
    assert code == 0, log
    assert "written again from 000000007.safetensors" in log
    assert "continues   after step 7" in log
    assert [row["epoch"] for row in read_history(layout)] == ["0", "1"]


def test_one_flipped_bit_in_the_initial_weights_is_found_before_the_training(point: Any, monkeypatch: Any) -> None:
    """Also when the plan had the digest from its cache."""
    weights = point.experiment.module.sam2_checkpoint
    spoil(weights)
    code, log = run(point.job(stage="train"))
    assert code == 2
    assert "changed after it was planned" in log
    assert not point.layout.best.exists()


def test_one_flipped_bit_in_the_weights_of_a_baseline_is_found_before_the_evaluation(point_with: Any) -> None:
    resolved = resolve(load_experiment(Path("toy.yaml"), ["experiment.baseline=true"]), fill=resources_of)
    baseline = next(one for one in resolved.runs if one.planned.baseline)
    layout = ExperimentLayout.of("toy")
    write_configs(layout, resolved, [baseline.planned.index])
    job = PointJob(layout.run(baseline.planned.run_id), baseline.planned, "eval", Attempt.current())
    weights = Path(baseline.experiment.module.sam2_checkpoint)
    whole = weights.read_bytes()
    spoil(weights)
    code, log = run(job)
    assert code == 2
    assert "changed after the baseline was planned" in log
    assert not list(job.layout.evaluations.glob("*/_SUCCESS"))
    weights.write_bytes(whole)
    code, log = run(replace(job, attempt=Attempt.current()))
    assert code == 0, log
    assert list(job.layout.evaluations.glob("*/_SUCCESS"))


def test_an_edited_configuration_stops_a_job_and_an_accepted_one_says_what_differs(point: Any) -> None:
    config = point.layout.config
    edited = config.read_text().replace("num_epochs: 2", "num_epochs: 3")
    config.write_text(edited)
    code, log = run(point.job(stage="train"))
    assert code == 2
    assert "remove its lines that begin with `# sealed`" in log
    config.write_text("".join(line for line in edited.splitlines(True) if not line.startswith("# sealed")))
    code, log = run(replace(point.job(stage="train"), attempt=Attempt.current()))
    assert code == 2
    assert "changed after it was planned" in log


def test_a_run_of_an_earlier_version_is_done_and_says_what_was_not_verified(finished: Any) -> None:
    layout = finished.layout
    for path in (layout.config, finished.evaluation.config):
        path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("# sealed")))
    layout.history.with_name("history.csv.sha256").unlink()
    code, log = run(finished.job())
    assert code == 0, log
    names = recorded_attempts(layout)[-1]["unverified"]
    assert {"config.yaml", f"eval/{finished.eval_id}/config.yaml"} <= set(names)


def test_one_damaged_run_does_not_stop_the_table_of_the_others(workplace: Any, attempt: Any, capsys: Any) -> None:
    plan = workplace.plan()
    save_plan(workplace.layout, plan)
    for planned in plan.runs:
        workplace.finish(planned, attempt())
    first = workplace.run(plan.runs[0])
    status = first.status.read_bytes()
    for path in (first.status, first.evaluation(plan.runs[0].eval_ids[0]).success):
        good = path.read_bytes()
        path.write_bytes(good[:-9])
        found = reconciled_runs_of(workplace.layout, newest_plan(workplace.layout), NOTHING_KNOWN)
        assert [entry.state for entry in found[1:]] == ["done"] * (len(plan.runs) - 1)
        assert found[0].state in ("unknown", "new")
        show_status(workplace.layout.folder)
        shown = capsys.readouterr()
        assert str(path) in shown.out + shown.err
        show_why(workplace.layout.folder, "0")
        capsys.readouterr()
        path.write_bytes(good)
    assert first.status.read_bytes() == status


def test_a_damaged_record_of_a_submission_is_named_until_it_is_removed(workplace: Any, attempt: Any) -> None:
    write_record(workplace.layout, Record(1, "0123456789ab", "here", "", (), RecordedReport("r", "19")))
    spoil(workplace.layout.submission(1))
    with pytest.raises(UserError, match=r"submissions/1\.json: .* then remove it"):
        records_of(workplace.layout)
    workplace.layout.submission(1).unlink()
    assert records_of(workplace.layout) == ()
    assert next_number(workplace.layout) == 1


def test_a_damaged_provenance_does_not_stop_a_report(finished: Any) -> None:
    spoil(finished.layout.provenance)
    state = RunState(finished.planned, finished.layout, read_status(finished.layout).state, "", None)
    facts = facts_of([state], [], Coverage(()))
    assert str(finished.layout.provenance) in str(facts)
