"""Remedies of sweeps, status and cancellation, on a fake Slurm or with work that stands for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.files import write_json
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import save_plan
from sam2ft.slurm.site import detect_site, load_site
from sam2ft.sweeps.lock import locked
from sam2ft.sweeps.state.reconcile import reconcile
from sam2ft.sweeps.state.slurm_snapshot import snapshot_of
from sam2ft.sweeps.status.cancel import cancel
from tests.fixtures.workplace import planned_runs
from tests.remedies.conftest import Desk, refusal
from tests.remedies.registry import remedy

Command = Callable[..., str]
DRY = "launch/sweep.py toy.yaml --dry-run --local 1"


@remedy("try again", of="another launcher is planning this experiment")
def another_launcher(toy: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("sam2ft.sweeps.lock.LOCK_WAIT_S", 0.1)
    layout = ExperimentLayout.of("toy")
    with locked(layout):
        shown = refusal(lambda: _hold(layout))
    _hold(layout)
    return shown


def _hold(layout: ExperimentLayout) -> None:
    with locked(layout):
        pass


def _wide(toy: Any, count: int) -> None:
    toy.write(more=f"sweep:\n  seeds: {count}\n")


@remedy("add --yes to start them")
def very_many_runs(toy: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    started: list[Any] = []
    monkeypatch.setattr("sam2ft.sweeps.sweep.run_locally", lambda *given: started.append(given) or 0)
    _wide(toy, 101)
    shown = desk.refused("launch/sweep.py toy.yaml --local 1")
    assert not started
    desk.works("launch/sweep.py toy.yaml --local 1 --yes")
    assert len(started) == 1
    return shown


@remedy("use --local N on this machine")
def a_site_on_a_machine_without_slurm(toy: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PATH", "nowhere")
    Path("slurm/sites").mkdir(parents=True)
    Path("slurm/sites/here.yaml").write_text("site: {name: here}\n")
    shown = desk.refused("launch/sweep.py toy.yaml --site here")
    desk.works(DRY)
    return shown


@remedy("choose with --site: {}")
def a_cluster_that_no_site_names(tmp_path: Path) -> str:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"site: {{name: {name}, cluster_name: {name}}}\n")
    shown = refusal(lambda: detect_site("three", tmp_path))
    for name in shown.partition("--site: ")[2].split(", "):
        assert load_site(name, tmp_path).site.name == name
    return shown


@remedy("remove it", of="not a calibration")
@remedy("measure again", of="not a calibration")
def a_calibration_that_is_damaged(toy: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = ExperimentLayout.of("toy").calibrations
    shown = ""
    for content in ({"stage": "train"}, {"stage": "eval", "measured": {"odd": 1}}, {"measured": 3}):
        write_json(folder / "0123456789abcdef.json", content)
        shown = desk.refused(DRY)
        Path(shown.partition(": not a calibration")[0].split()[-1]).unlink()
        desk.works(DRY)
    return shown


@remedy("measure it with --calibrate", slow=True)
@remedy("run times are unknown: the first runs measure them, or --calibrate before that", slow=True)
def a_cost_that_is_not_known(toy: Any, desk: Desk) -> str:
    toy.write("gpus_per_node: 0", "gpus_per_node: 1")
    shown = desk.refused(f"{DRY} --max-gpu-hours 100")
    desk.works("launch/sweep.py toy.yaml --calibrate --local 1")
    desk.works(f"{DRY} --max-gpu-hours 100")
    return shown


@remedy("kept unless --force or --strict-code", slow=True)
def finished_runs_of_other_code(finished: Any, sweeps: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    sweeps()
    value = json.loads(finished.layout.provenance.read_text())
    for attempt in value["attempts"]:
        attempt["code"]["digest"] = "0" * 16
    finished.layout.provenance.write_text(json.dumps(value))
    before = finished.layout.best.stat().st_mtime_ns
    shown = " ".join(sweeps().split())
    assert finished.layout.best.stat().st_mtime_ns == before
    sweeps("--strict-code")
    assert len(list(Path("runs/toy").glob("*/checkpoints/best.pt"))) == 2
    sweeps("--force")
    assert finished.layout.best.stat().st_mtime_ns > before
    return shown


# --- status, tail and cancel ----------------------------------------------------------------------------------------


@remedy("give more of it, or the index: {}")
def a_run_named_ambiguously(toy: Any, desk: Desk) -> str:
    toy.write(more="sweep:\n  grid: {module.num_epochs: [1, 11]}\n")
    save_plan(ExperimentLayout.of("toy"), _plan())
    shown = desk.refused("launch/status.py toy.yaml why num")
    for given in ("num_epochs=11", "0", "1"):
        assert "(index" in desk.works(f"launch/status.py toy.yaml why {given}")
    return shown


def _plan() -> Any:
    from sam2ft.config.load_experiment import load_experiment
    from sam2ft.jobs.preflight.preflight import resolve
    from sam2ft.runs.resources.resources import resources_of
    from sam2ft.sweeps.plan.plan import make_plan

    return make_plan(resolve(load_experiment(Path("toy.yaml")), fill=resources_of))


@remedy("`why` shows what it waits for")
@remedy("`make sweep` starts it", slow=True)
def a_run_without_a_log(toy: Any, desk: Desk, sweeps: Command) -> str:
    save_plan(ExperimentLayout.of("toy"), _plan())
    shown = desk.refused("launch/status.py toy.yaml tail 0")
    why = desk.works("launch/status.py toy.yaml why 0")
    assert "state       new" in why
    sweeps()
    assert "state       done" in desk.works("launch/status.py toy.yaml why 0")
    return shown + why


@remedy("add --yes", of="local processes would be cancelled")
@remedy("name a run")
def everything_cancelled_by_mistake(slurm: Any) -> str:
    from tests.sweeps.submit.test_submit import plan_of

    plan = plan_of(planned_runs(3))
    slurm.sweep(plan)
    shown = refusal(lambda: cancel(slurm.layout.folder))
    cancel(slurm.layout.folder, "p1")
    cancel(slurm.layout.folder, yes=True)
    assert "local processes would be cancelled" in shown
    return shown


@remedy("`--json` or a pipe shows all")
def a_table_of_too_many_runs(toy: Any, desk: Desk) -> str:
    from sam2ft.report.terminal import terminal_text
    from sam2ft.sweeps.status.table import MOST_ROWS, status_page, status_rows

    _wide(toy, MOST_ROWS + 5)
    layout, plan = ExperimentLayout.of("toy"), _plan()
    save_plan(layout, plan)
    snapshot = snapshot_of(layout)
    rows = status_rows(layout, reconcile(layout, plan, snapshot), snapshot)
    shown = terminal_text(status_page(rows, snapshot, most=MOST_ROWS), width=200)
    assert len(json.loads(desk.works("launch/status.py toy.yaml --json"))["runs"]) == len(rows)
    assert desk.works("launch/status.py toy.yaml").count("new") >= len(rows)
    return shown
