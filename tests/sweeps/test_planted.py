"""Files that somebody else could have written: nothing of them runs. Status and reports of others' runs can be read.

Every planted configuration names a metric that leaves a trace when Python imports it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fixtures.points import Point

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.errors import UserError
from sam2ft.core.files import write_json
from sam2ft.evaluation.checkpoints import CheckpointRequest, job_of
from sam2ft.jobs.calibrate import calibrate
from sam2ft.jobs.job import main, run_point
from sam2ft.jobs.job_file import JobFile, write_job_file
from sam2ft.metrics.factory import load_metrics
from sam2ft.notebooks import results
from sam2ft.report.export_best import export_best
from sam2ft.report.layout import ReportLayout
from sam2ft.report.report import report
from sam2ft.report.request import PaperFormats, ReportRequest
from sam2ft.runs.layout import RUNS, ExperimentLayout
from sam2ft.runs.plan_file import newest_plan
from sam2ft.slurm.site import load_site
from sam2ft.slurm.site_check import check_site
from sam2ft.sweeps.aggregate import aggregate_sources
from sam2ft.sweeps.local.train_here import train_here
from sam2ft.sweeps.state.collect import states_of
from sam2ft.sweeps.status.cancel import cancel
from sam2ft.sweeps.status.table import show_status
from sam2ft.sweeps.submit.throttle import throttle
from sam2ft.sweeps.sweep import SweepRequest, sweep

Give = Callable[[Path], None]
ROOT = Path(__file__).parents[2]
PLANTED = """\
import pathlib
pathlib.Path("trace").touch()
class Planted:
    name, needs = "planted", ()
    def measure(self, pair):
        return iter(())
"""
EXPERIMENT = Path("toy.yaml")


@pytest.fixture
def planted(finished: Point, monkeypatch: pytest.MonkeyPatch) -> Iterator[Point]:
    """A finished run; its configuration, its evaluation's and the experiment now name the planted metric."""
    Path("planted.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    for path in (EXPERIMENT, finished.layout.config, finished.evaluation.config):
        text = path.read_text()
        for known in ("metric: {func: {dice: true, iou: true}}", "func: {dice: true, iou: true}"):
            text = text.replace(known, known.replace("iou: true", "'planted:Planted': true"))
        assert "planted:Planted" in text
        # The digest is no signature: whoever can write the file can leave it out.
        path.write_text("".join(line for line in text.splitlines(True) if not line.startswith("# sealed")))
    yield finished
    sys.modules.pop("planted", None)


def plan_file() -> Path:
    (path,) = Path("runs/toy").glob("plan-*.json")
    return path


def job_file() -> Path:
    path = Path("runs/toy/submissions/1/name.json")
    if not path.is_file():
        plan = plan_file().stem.removeprefix("plan-")
        write_job_file(path, JobFile(str(Path("runs/toy").resolve()), plan, "eval", (0,)))
    return path


def queued() -> None:
    """A job that an earlier version queued; a child of the local pool does the same, with other output."""
    run_point("runs/toy", plan_file().stem.removeprefix("plan-"), 0, "eval")


def base() -> Path:
    """The file that the experiment extends."""
    path = Path("base.yaml")
    if not path.is_file():
        EXPERIMENT.rename(path)
        EXPERIMENT.write_text("extends: base.yaml\n")
    return path


def calibration(name: str) -> Path:
    layout = ExperimentLayout.of("toy").calibration("key")
    if not layout.task.is_file():
        write_json(layout.task, {"stage": "eval", "point": "toy", "world_size": 1})
        shutil.copy(EXPERIMENT, layout.experiment)
    return layout.task if name == "task" else layout.experiment


def export() -> None:
    layout = ExperimentLayout.of("toy")
    found = tuple(states_of(layout, newest_plan(layout)))
    outcome = report(ReportRequest("toy", ReportLayout(Path("out-report")), found))
    export_best(outcome.comparison, found, Path("out"))


COMMANDS: dict[str, Callable[[], object]] = {
    "sweep": lambda: sweep(SweepRequest(EXPERIMENT, local=1)),
    "plan": lambda: sweep(SweepRequest(EXPERIMENT, local=1, dry_run=True)),
    "train": lambda: train_here(EXPERIMENT, (), point=None, fresh=False),
    "queued job": queued,
    "task": lambda: main([str(job_file()), "0"]),
    "calibration": lambda: calibrate("runs/toy", ["key"]),
    "evaluation": lambda: job_of(CheckpointRequest(next(Path("runs/toy").glob("*/checkpoints/best.pt")))),
    "export": export,
    "cancel": lambda: cancel(Path("runs/toy"), yes=True),
}
CASES: list[tuple[str, Callable[[Point], Path]]] = [
    *((name, lambda _: EXPERIMENT) for name in ("sweep", "plan", "train")),
    *((name, lambda _: base()) for name in ("sweep", "plan", "train")),
    *((name, lambda point: point.layout.config) for name in ("queued job", "task", "evaluation", "export")),
    *((name, lambda point: point.layout.folder) for name in ("queued job", "task", "evaluation")),
    *((name, lambda _: plan_file()) for name in ("queued job", "task", "cancel")),
    *((name, lambda _: Path("runs/toy")) for name in ("queued job", "task", "cancel")),
    ("queued job", lambda point: point.evaluation.config),
    ("queued job", lambda point: point.evaluation.folder),
    ("task", lambda _: job_file()),
    ("task", lambda _: job_file().parent),
    ("calibration", lambda _: calibration("task")),
    ("calibration", lambda _: calibration("experiment")),
]


def refused(command: str, at: Path) -> str:
    """What the command says to the user; it must not have run anything."""
    said = ""
    try:
        COMMANDS[command]()
    except UserError as error:
        said = str(error)
    except SystemExit as ended:
        # A job that began tells its run's log.
        said = "" if ended.code != 2 else "".join(path.read_text() for path in Path("runs").rglob("*.log"))
    assert not Path("trace").exists()
    assert "planted" not in sys.modules
    name = "" if at == Path() else f"{at}: "
    lines = [line for line in said.splitlines() if name in line and "can run code" in line]
    assert lines, said
    return lines[0]


@pytest.mark.parametrize(("command", "place"), CASES)
def test_nothing_of_another_user_runs(
    planted: Point, belongs_to_another: Give, command: str, place: Callable[[Point], Path]
) -> None:
    at = place(planted)
    calibration("task"), job_file()
    belongs_to_another(at)
    # Where the tests do not run as root, all files are a stranger's, and the first one that is read is refused.
    assert "belongs to user" in refused(command, at if os.getuid() == 0 else Path())


@pytest.mark.parametrize(("command", "place"), CASES)
def test_nothing_that_all_users_can_write_runs(planted: Point, command: str, place: Callable[[Point], Path]) -> None:
    at = place(planted)
    calibration("task"), job_file()
    at.chmod(at.stat().st_mode | 0o002)
    assert "can be written by all users" in refused(command, at)


@pytest.mark.parametrize("command", ["plan", "evaluation"])
def test_the_trap_works(planted: Point, command: str) -> None:
    """Without a stranger, the same commands import the metric."""
    with suppress(SystemExit, UserError):
        found = COMMANDS[command]()
        if command == "evaluation":
            load_metrics(found.experiment.datamodule.metric.func)  # type: ignore[attr-defined]
    assert Path("trace").exists()


@pytest.mark.parametrize("where", ["file", "folder", "cache of Python"])
def test_the_module_of_a_metric_that_others_can_write_is_not_imported(planted: Point, where: str) -> None:
    cache = Path("__pycache__")
    cache.mkdir(exist_ok=True)
    place = {"file": Path("planted.py"), "folder": Path("package"), "cache of Python": cache}[where]
    name = "planted:Planted"
    if where == "folder":
        place.mkdir()
        shutil.copy("planted.py", place / "__init__.py")
        shutil.copy("planted.py", place / "planted.py")
        name = "package.planted:Planted"
    place.chmod(place.stat().st_mode | 0o002)
    with pytest.raises(UserError, match=r"metric module.* can be written by all users"):
        load_metrics({name: True})
    assert not Path("trace").exists()
    place.chmod(place.stat().st_mode & ~0o002)
    assert len(load_metrics({name: True})) == 1
    for imported in ("planted", "package", "package.planted"):
        sys.modules.pop(imported, None)


def test_shell_lines_of_a_site_of_another_user_do_not_run(toy: object, belongs_to_another: Give) -> None:
    path = Path("slurm/sites/here.yaml")
    path.parent.mkdir(parents=True)
    path.write_text("site: {name: here}\nslurm: {setup: [touch trace]}\n")
    list(check_site("here"))
    assert Path("trace").exists()  # the trap works
    Path("trace").unlink()
    belongs_to_another(path)
    (finding,) = check_site("here")
    assert finding.result == "problem"
    assert re.search(r"site file.*, which can run code, belongs to user", finding.text)
    with pytest.raises(UserError, match="belongs to user"):
        load_site("here")
    with pytest.raises(UserError, match="belongs to user"):
        sweep(SweepRequest(EXPERIMENT, site="here", dry_run=True))
    assert not Path("trace").exists()


@pytest.mark.parametrize("command", ["throttle", "cancel"])
def test_jobs_in_the_record_of_another_user_are_left_alone(
    planted: Point, belongs_to_another: Give, command: str
) -> None:
    record = Path("runs/toy/submissions/1.json")
    write_json(record, {"version": 2})
    belongs_to_another(record)
    with pytest.raises(UserError, match="which can run code, belongs to user"):
        throttle(ExperimentLayout.of("toy"), 1) if command == "throttle" else cancel(Path("runs/toy"), yes=True)


@pytest.mark.parametrize("mask", [0o000, 0o020])
def test_with_an_open_umask_the_launcher_refuses_and_not_each_job(toy: object, mask: int) -> None:
    before = os.umask(mask)
    try:
        with pytest.raises(UserError, match=r"can be written by all users .* chmod o-w runs/toy"):
            sweep(SweepRequest(EXPERIMENT, local=1))
    finally:
        os.umask(before)
    assert not list(RUNS.rglob("*.log"))


def test_status_and_reports_of_the_runs_of_others_are_read_and_run_nothing(
    planted: Point, belongs_to_another: Give, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (EXPERIMENT, *RUNS.rglob("*"), RUNS):
        belongs_to_another(path)
    assert load_experiment(planted.layout.config).experiment.datamodule.metric.func["planted:Planted"]
    show_status(Path("runs/toy"), as_json=True)
    show_status(EXPERIMENT)
    assert "done" in capsys.readouterr().out
    assert aggregate_sources(
        ["runs/toy"], Path("mine"), export=False, require_complete=False, papers=PaperFormats(), tensorboard=False,
        wandb=None,
    ) == 0  # fmt: skip
    assert Path("mine/index.html").is_file()
    assert len(results("runs/toy")["slice"]) > 0
    assert not Path("trace").exists()
    assert "planted" not in sys.modules


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("script", [pytest.param("train.py", marks=pytest.mark.slow), "sweep.py"])
def test_the_commands_end_with_2_and_one_line_and_the_remedy_works(toy: object, script: str) -> None:
    os.chown(EXPERIMENT, 54321, -1)
    before = sorted(Path().rglob("*"))
    command = [sys.executable, str(ROOT / "launch" / script), "toy.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    more = ["--dry-run", "--local", "1"] if script == "sweep.py" else ["--set", "module.num_epochs=1"]
    done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "SAM2FT_TRUST=54321" in done.stderr
    assert sorted(Path().rglob("*")) == before
    environment["SAM2FT_TRUST"] = "54321"
    done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
