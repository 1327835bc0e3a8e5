"""What a report is made of: experiments, runs, evaluations and patterns of them, and what is refused or named."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sam2ft.cli.aggregate import main
from sam2ft.core.errors import DataError, IncompleteError, UserError
from sam2ft.core.files import write_json, write_text
from sam2ft.report.tables.coverage import Coverage, CoveredRun
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedPoint, PlannedRun, Resources, save_plan
from sam2ft.runs.states import FailureClass, State
from sam2ft.sweeps import aggregate as aggregate_module
from sam2ft.sweeps.state.collect import report_states
from sam2ft.sweeps.state.reconcile import ReconciledRun
from sam2ft.sweeps.state.slurm_snapshot import NOTHING_KNOWN
from sam2ft.sweeps.state.sources import default_report, sources_of
from sam2ft.sweeps.submit.records import Element

EVAL = "e" * 12
RESOURCES = Resources(nodes=2, tasks_per_node=1, gpus_per_node=4, cpus_per_task=8, mem_gb=64.0, hours=3.0)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a Slurm."""
    monkeypatch.chdir(tmp_path)
    for module in ("sam2ft.sweeps.state.sources", "sam2ft.sweeps.state.collect"):
        monkeypatch.setattr(f"{module}.snapshot_of", lambda layout: NOTHING_KNOWN)
    return tmp_path


def planned(run_id: str, index: int = 0, name: str = "") -> PlannedRun:
    points = (PlannedPoint(name or f"point {index}", (), EVAL),)
    return PlannedRun(index, run_id, "train_eval", False, points, RESOURCES, replace(RESOURCES, nodes=1, hours=1.0))


def experiment(name: str, *runs: str) -> ExperimentLayout:
    """A plan of runs that nobody has begun."""
    layout = ExperimentLayout.of(name)
    layout.folder.mkdir(parents=True, exist_ok=True)
    save_plan(layout, Plan(name, f"/{name}.yaml", False, tuple(planned(run, n) for n, run in enumerate(runs))))
    return layout


def evaluated(folder: Path, run: str) -> Path:
    place = folder / "eval" / EVAL
    write_json(place / "_SUCCESS", {"run": run, "eval": EVAL, "tables": {}})
    return folder


def names(*given: str) -> list[tuple[str, str]]:
    return [(state.planned.name, state.planned.run_id) for state in sources_of(given).named()]


def test_an_experiment_is_the_runs_of_its_newest_plan() -> None:
    experiment("knee", "knee-0", "knee-1")
    time.sleep(0.01)
    experiment("knee", "knee-1", "knee-2")
    sources = sources_of(["runs/knee"])
    assert [state.planned.run_id for state in sources.states.values()] == ["knee-1", "knee-2"]
    assert default_report(sources, ["runs/knee"]).folder == Path("runs/knee/report")
    assert sources.problems == []


def test_evaluated_runs_that_the_newest_plan_does_not_know_are_named() -> None:
    layout = experiment("knee", "knee-1")
    evaluated(layout.folder / "knee-0", "knee-0")
    (problem,) = sources_of(["runs/knee"]).problems
    assert "runs/knee: 1 evaluated runs are not in the newest plan and left out: knee-0" in problem


def test_points_of_several_experiments_carry_its_name_and_are_counted_through() -> None:
    experiment("knee", "knee-0", "knee-1")
    experiment("spine", "spine-0")
    given = ["runs/knee", "runs/spine"]
    sources = sources_of(given)
    assert names(*given) == [("knee/point 0", "knee-0"), ("knee/point 1", "knee-1"), ("spine/point 0", "spine-0")]
    assert [state.planned.index for state in sources.named()] == [0, 1, 2]
    report = default_report(sources, given).folder
    assert report.parent == Path("runs/_reports")
    assert default_report(sources, given[::-1]).folder == report, "the order on the command line is nothing"


def test_a_quoted_pattern_finds_runs_and_not_what_lies_beside_them() -> None:
    layout = experiment("knee", "knee-0", "knee-1")
    time.sleep(0.01)
    for run in ("knee-0", "knee-1"):
        evaluated(layout.folder / run, run)
    (layout.report / "assets").mkdir(parents=True)
    layout.submissions.mkdir()
    sources = sources_of(["runs/knee/*"])
    assert [state.planned.name for state in sources.states.values()] == ["point 0", "point 1"]
    assert (sources.problems, sources.only) == ([], None)


def test_a_run_that_only_an_older_plan_knows_has_its_point_all_the_same() -> None:
    layout = experiment("knee", "knee-0")
    time.sleep(0.01)
    experiment("knee", "knee-1")
    assert names(str(evaluated(layout.folder / "knee-0", "knee-0"))) == [("point 0", "knee-0")]


def test_a_run_without_a_plan_and_an_evaluation_of_others_are_taken_as_they_are() -> None:
    evaluated(Path("runs/copied/knee-7"), "knee-7")
    foreign = Path("runs/_foreign/abc") / EVAL
    write_json(foreign / "_SUCCESS", {"run": "foreign-abc", "eval": EVAL, "tables": {}})
    sources = sources_of(["runs/copied/knee-7", str(foreign)])
    run, evaluation = sources.states.values()
    assert (run.planned.run_id, run.planned.eval_ids, run.state) == ("knee-7", (EVAL,), "unknown")
    assert (evaluation.planned.run_id, evaluation.evaluation(EVAL).folder) == ("foreign-abc", foreign)


def test_the_folder_of_a_runs_evaluation_is_its_run() -> None:
    folder = evaluated(Path("runs/knee/knee-7"), "knee-7")
    assert names(str(folder / "eval" / EVAL)) == [("knee-7", "knee-7")]


def test_the_same_run_given_twice_counts_once() -> None:
    experiment("knee", "knee-0")
    evaluated(Path("runs/knee/knee-0"), "knee-0")
    assert len(names("runs/knee", "runs/knee/knee-0", "runs/../runs/knee")) == 1


def test_what_is_nothing_of_ours_is_named_and_the_rest_is_reported() -> None:
    experiment("knee", "knee-0")
    Path("photos").mkdir()
    Path("notes.txt").write_text("x")
    sources = sources_of(["runs/knee", "photos", "nowhere", "none*", "notes.txt"])
    assert len(sources.states) == 1
    for name, problem in zip(("photos", "nowhere", "none*", "notes.txt"), sorted_like(sources.problems), strict=True):
        assert name in problem
        assert "left out" in problem


def sorted_like(problems: list[str]) -> list[str]:
    order = ("photos", "nowhere", "none*", "notes.txt")
    return sorted(problems, key=lambda text: next(n for n, name in enumerate(order) if name in text))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["photos"], "is none of an experiment file, the folder of an experiment"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["none*"], "none*: no such file or folder; left out\nnothing to report"),
        (["photos", "nowhere"], "nothing to report; give an experiment file"),
    ],
)
def test_nothing_of_ours_at_all_is_refused(given: list[str], words: str) -> None:
    Path("photos").mkdir()
    with pytest.raises(UserError) as raised:
        sources_of(given)
    assert words in str(raised.value)


def test_half_an_end_of_a_foreign_evaluation_is_refused_by_name() -> None:
    write_text(Path("made/_SUCCESS"), '{"run": "x"')
    with pytest.raises(DataError, match=r"made/_SUCCESS: not a JSON file"):
        sources_of(["made"])


def test_gpu_hours_are_what_tasks_may_use_and_what_accounting_says() -> None:
    layout = experiment("knee", "knee-0")
    jobs = (Element("7_0", "train", 1), Element("8", "eval", 1), Element("9", "eval", 2))
    reconciled = ReconciledRun(planned("knee-0"), State.FAILED, "out of memory", None, FailureClass.OOM, jobs)
    accounting: Any = {"7_0": SimpleNamespace(gpu_hours=2.5), "8": SimpleNamespace(gpu_hours=0.25)}
    (state,) = report_states(layout, [reconciled], accounting)
    assert (state.gpu_hours_planned, state.gpu_hours_used) == (2 * 4 * 3.0 + 4 * 1.0, 2.75)
    assert (state.failure_class, report_states(layout, [reconciled])[0].gpu_hours_used) == ("oom", None)


# The command


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Requests that would have been reported; the report says that one of two runs is done."""
    asked: list[Any] = []
    covered = (CoveredRun("a", "r", State.DONE), CoveredRun("b", "s", State.FAILED, failure_class=FailureClass.OOM))
    outcome = SimpleNamespace(coverage=Coverage(covered), comparison=None)
    monkeypatch.setattr(aggregate_module, "report", lambda request: (asked.append(request), outcome)[1])
    monkeypatch.setattr(aggregate_module, "show_outcome", lambda outcome: None)
    experiment("knee", "knee-0")
    return asked


def test_options_may_stand_anywhere_and_reach_the_report(reports: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[Any] = []
    monkeypatch.setattr(
        aggregate_module,
        "export_best",
        lambda *given: (exported.append(given), ("e", "w"))[1],
    )
    assert main(["runs/knee", "--latex", "export-best", "--excel", "--out", "taken"]) == 0
    (request,) = reports
    assert (request.papers.latex, request.papers.markdown, request.papers.excel) == (True, False, True)
    assert request.layout.folder == Path("runs/knee/report"), "with export-best the report stays where it is"
    assert exported[0][2] == Path("taken")
    assert main(["runs/knee", "--out", "elsewhere"]) == 0
    assert reports[1].layout.folder == Path("elsewhere")


def test_an_incomplete_report_is_made_and_then_ends_with_three(reports: list[Any]) -> None:
    with pytest.raises(IncompleteError, match=r"knee: 2 planned: 1 done, 1 failed \(1 oom\)"):
        main(["runs/knee", "--require-complete"])
    assert len(reports) == 1
    assert main(["runs/knee"]) == 0


@pytest.mark.parametrize("out", ["photos", "photos/one.png", "."])
def test_a_folder_that_holds_something_else_is_never_replaced(reports: list[Any], out: str) -> None:
    Path("photos").mkdir()
    Path("photos/one.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"allowed: a new or empty folder|working directory"):
        main(["runs/knee", "--out", out])
    assert reports == []
    Path("photos/coverage.json").write_text("{}")
    if out == "photos":
        assert main(["runs/knee", "--out", out]) == 0
