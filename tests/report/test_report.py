"""The report of an experiment: what is counted, what is named as missing, and that the order of runs is nothing."""

import csv
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace

import pytest

from sam2ft.core.digests.sealed import sealed_yaml
from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, sha256_file, write_json, write_text
from sam2ft.core.tables.rows import TABLES, read_csv, write_csv
from sam2ft.report import report as report_module
from sam2ft.report.layout import ReportLayout
from sam2ft.report.plots.files import page_program
from sam2ft.report.request import ReportOutcome, ReportRequest, RunState
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import PlannedPoint
from sam2ft.runs.states import State

pytestmark = pytest.mark.sam2
LAYOUT = ExperimentLayout.of("toy")


@pytest.fixture
def states(finished) -> list[RunState]:
    """Two runs that are done (the second a copy whose scores differ), one that failed and one that never began."""
    first = RunState(finished.planned, finished.layout, State.DONE, "", read_status(finished.layout))
    return [first, _copy(finished, "0001"), *(_without_result(finished, *case) for case in CASES)]


CASES = (
    ("0002", "failed", "FloatingPointError: loss was not finite", ("Traceback (most recent call last)", "  <lost>")),
    ("0003", "new", "", ()),
)


def _planned(finished, suffix):
    run_id = f"toy-000000000000{suffix}"
    (only,) = finished.planned.points
    point = PlannedPoint(f"lr={suffix}", (("module.optimizer.lr", float(suffix)),), only.eval_id)
    return replace(finished.planned, index=int(suffix), run_id=run_id, points=(point,))


def _copy(finished, suffix) -> RunState:
    """A run beside the finished one, with one hit more per slice row."""
    planned = _planned(finished, suffix)
    place = LAYOUT.run(planned.run_id)
    shutil.copytree(finished.layout.folder, place.folder)
    for path in (place.status, place.claim, place.provenance, place.identity):
        write_sealed_json(path, read_json(path) | {"run": planned.run_id})
    evaluation = place.evaluation(finished.eval_id)
    digests = {}
    for name in ("slice", "instance", "volume", "global"):
        rows = read_csv(evaluation.table(name), TABLES[name])
        write_csv(evaluation.table(name), TABLES[name], [{**row, "run": planned.run_id} for row in rows])
        digests[name] = sha256_file(evaluation.table(name))
    write_json(evaluation.success, read_json(evaluation.success) | {"run": planned.run_id, "tables": digests})
    status = read_status(place)
    return RunState(planned, place, State.DONE, "", replace(status, best_value=status.best_value / 2))


def _without_result(finished, suffix, state, reason, log) -> RunState:
    planned = _planned(finished, suffix)
    return RunState(planned, LAYOUT.run(planned.run_id), State(state), reason, None, log)


def report(states) -> ReportOutcome:
    return report_module.report(ReportRequest("toy", ReportLayout(LAYOUT.report), tuple(states)))


def table(name) -> list[dict[str, str]]:
    with (LAYOUT.report / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def report_files(states: Sequence[RunState]) -> dict[str, bytes]:
    shutil.rmtree(LAYOUT.report, ignore_errors=True)
    report(states)
    return {str(path.relative_to(LAYOUT.report)): path.read_bytes() for path in sorted(LAYOUT.report.rglob("*.csv"))}


def test_coverage_names_every_planned_run_and_why_it_is_not_done(states):
    report(states)
    coverage = read_json(LAYOUT.report / "coverage.json")
    assert {name: coverage[name] for name in ("planned", "done", "failed", "missing", "complete")} == {
        "planned": 4, "done": 2, "failed": 1, "missing": 1, "complete": False,
    }  # fmt: skip
    assert [(run["name"], run["state"], run["reason"]) for run in coverage["runs"]][2:] == [
        ("lr=0002", "failed", "FloatingPointError: loss was not finite"),
        ("lr=0003", "new", ""),
    ]
    assert coverage["problems"] == []


def test_tables_hold_the_rows_of_all_finished_runs_and_no_other(states):
    report(states)
    runs = {state.planned.run_id for state in states[:2]}
    for name in ("slice", "instance", "volume", "global"):
        assert {row["run"] for row in table(name)} == runs
    assert len(table("slice")) == 2 * 2 * 4 * 2
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(LAYOUT.report / "slice.parquet").num_rows == 32


def test_the_comparison_has_a_line_per_point_and_chooses_by_validation(states):
    outcome = report(states)
    lines = table("compare")
    assert [line["run"] for line in lines] == [state.planned.run_id for state in states]
    assert [line["state"] for line in lines] == ["done", "done", "failed", "new"]
    assert outcome.comparison.best == states[1].planned.run_id


def test_the_page_is_whole_without_the_network(states):
    page = report(states).page
    text = page.read_text()
    text = re.sub(r"<script\b.*?</script>", "", text, flags=re.DOTALL)  # bundled libraries name their homes
    text = re.sub(r'<pre class="prose".*?</pre>', "", text, flags=re.DOTALL)  # words of the methods text, no links
    assert not re.search(r"(?:https?:)?//[a-z0-9]", text.replace(page_program(), ""))
    names = re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert names
    assert all((page.parent / name).is_file() for name in names if not name.startswith("data:"))
    assert "FloatingPointError: loss was not finite" in text
    assert "&lt;lost&gt;" in text
    assert "<lost>" not in text


def test_a_table_that_was_changed_is_named_and_not_counted(states):
    changed = LAYOUT.run(states[0].planned.run_id).evaluation(states[0].planned.eval_ids[0]).table("slice")
    changed.write_text(changed.read_text().replace(",ok", ",ok ", 1))
    outcome = report(states)
    (problem,) = outcome.problems
    assert "slice.csv was changed after the evaluation wrote it; not counted" in problem
    assert {row["run"] for row in table("slice")} == {states[1].planned.run_id}
    assert read_json(LAYOUT.report / "coverage.json")["problems"] == [problem]
    assert "was changed after the evaluation wrote it" in outcome.page.read_text()


def test_an_evaluation_of_earlier_weights_is_named_and_not_counted(states):
    stale = replace(states[0], status=replace(states[0].status, best_sha256="0" * 64))
    outcome = report([stale, *states[1:]])
    assert "was made with earlier weights; not counted" in outcome.problems[0]
    assert {row["run"] for row in table("slice")} == {states[1].planned.run_id}


def test_rows_of_another_run_in_a_runs_folder_are_named(states):
    evaluation = LAYOUT.run(states[0].planned.run_id).evaluation(states[0].planned.eval_ids[0])
    rows = read_csv(evaluation.table("slice"), TABLES["slice"])
    write_csv(evaluation.table("slice"), TABLES["slice"], [{**row, "run": "toy-other"} for row in rows])
    success = read_json(evaluation.success)
    success["tables"]["slice"] = sha256_file(evaluation.table("slice"))
    write_json(evaluation.success, success)
    assert any("toy-other" in problem for problem in report(states).problems)


def test_the_order_of_runs_changes_no_table(states):
    assert report_files(states) == report_files(states[::-1])


def test_a_report_without_any_result_is_a_page_all_the_same(states):
    outcome = report(states[2:])
    assert outcome.page.is_file()
    assert outcome.comparison.best is None
    assert table("slice") == []


def test_tables_and_pictures_of_an_earlier_report_do_not_stay(states):
    report(states)
    pictures = {path.name for path in (LAYOUT.report / "assets").iterdir()}
    for name in ("biomarker_volume.csv", "biomarker_volume.parquet", "biomarker_global.csv"):
        (LAYOUT.report / name).write_text("old")
    (LAYOUT.report / "assets" / "old.png").write_bytes(b"old")
    page = report(states).page
    assert not list(LAYOUT.report.glob("biomarker*"))
    assert "biomarker_" not in page.read_text()
    assert {path.name for path in (LAYOUT.report / "assets").iterdir()} == pictures


def test_nothing_planned_is_nothing_to_report(finished):
    with pytest.raises(DataError, match="no planned run"):
        report([])


def test_a_setting_that_differs_between_runs_is_shown_with_all_its_values(states):
    other = LAYOUT.run(states[1].planned.run_id).config
    lines = (line for line in other.read_text().splitlines(True) if not line.startswith("# sealed"))
    write_text(other, sealed_yaml("".join(lines).replace("lr: 0.001", "lr: 0.0002")))
    report(states)
    assert "AdamW, lr 0.001; AdamW, lr 0.0002" in (LAYOUT.report / "index.html").read_text()


def test_biomarkers_have_their_agreement_as_a_table_and_pictures_on_the_page(states):
    """Four subjects, T2 of the prediction 1 ms above, 1 below, equal, 2 above; a fifth was missed."""
    best = states[1].planned
    evaluation = LAYOUT.run(best.run_id).evaluation(best.eval_ids[0])
    key = {name: read_csv(evaluation.table("volume"), TABLES["volume"])[0][name] for name in _STAMP}
    kind = {"label": 1, "tissue": "<i>cartilage</i>", "instance": None, "biomarker": "t2", "definition": "mean"}
    pairs = [(40.0, 41.0), (44.0, 43.0), (42.0, 42.0), (48.0, 50.0), (45.0, None)]
    rows = [
        {
            **key, **kind, "unit": "ms", "subject": f"s{number}", "volume": "v", "n_reference": 9, "n_prediction": 9,
            "reference": reference, "prediction": prediction, "dz_source": "positions",
            "difference": None if prediction is None else prediction - reference,
            "status": "missed" if prediction is None else "ok",
        }
        for number, (reference, prediction) in enumerate(pairs)
    ]  # fmt: skip
    write_csv(evaluation.table("biomarker_volume"), TABLES["biomarker_volume"], rows)
    success = read_json(evaluation.success)
    success["tables"]["biomarker_volume"] = sha256_file(evaluation.table("biomarker_volume"))
    write_json(evaluation.success, success)
    page = report(states).page
    (row,) = table("biomarker_global")
    assert (row["n"], row["n_missed"], row["bias"], row["within_yardstick"]) == ("4", "1", "0.5", "1")
    assert float(row["loa_low_ci_low"]) < float(row["loa_low"]) < 0.5 < float(row["loa_high_ci_high"])
    text = page.read_text()
    assert 'id="agreement"' in text
    assert "<i>cartilage" not in text
    for side in ("difference", "scatter"):
        for suffix in ("svg", "pdf", "png"):
            assert (LAYOUT.report / "figures" / f"agreement-1-1-{side}.{suffix}").is_file()
            assert f"./figures/agreement-1-1-{side}.{suffix}" in text


_STAMP = ("run", "eval", "dataset", "split", "protocol")
