"""Remedies of sweeps, status and cancellation, on a fake Slurm or with work that stands for it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.files import read_json
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.attempt.restarts import NotRestartableError, refuse_requeue
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


@remedy("run times are unknown: the first runs measure them, or --calibrate before that", slow=True)
def a_cost_that_is_not_known(toy: Any, desk: Desk, sweeps: Command) -> str:
    shown = " ".join(desk.works(DRY).split())
    desk.works("launch/sweep.py toy.yaml --calibrate --local 1")
    assert "run times are unknown" not in " ".join(desk.works(DRY).split())
    shutil.rmtree("runs")
    assert "run times are unknown" in " ".join(desk.works(DRY).split())
    sweeps()
    assert "run times are unknown" not in " ".join(desk.works(DRY).split())
    return shown


@remedy("kept unless --force or --strict-code", slow=True)
def finished_runs_of_other_code(finished: Any, sweeps: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    sweeps()
    value = read_json(finished.layout.provenance)
    for attempt in value["attempts"]:
        attempt["code"]["digest"] = "0" * 16
    write_sealed_json(finished.layout.provenance, value)
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
    shown = terminal_text(status_page(rows, rows, snapshot))
    assert len(json.loads(desk.works("launch/status.py toy.yaml --json"))) == len(rows)
    assert desk.works("launch/status.py toy.yaml").count("new") >= len(rows)
    return shown


# --- what `why` tells to do next ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a run ended: what its status says, and the option of the sweep that `why` names."""

    state: str
    failure_class: str | None = None
    option: tuple[str, ...] = ()
    dead: bool = False


STOPPED = "`make sweep` continues it from its newest checkpoint"
LOST = "`make sweep` starts it again from its newest checkpoint"
RETRY = "{}, then `make sweep{}`"


@remedy(STOPPED, case=Ended("stopped"), slow=True)
@remedy(LOST, case=Ended("training", dead=True), slow=True)
@remedy(RETRY, case=Ended("failed", "error", ("--retry", "error")), slow=True)
@remedy("more memory", of="more memory (resources", case=Ended("failed", "oom", ("--retry", "oom")), slow=True)
@remedy("more time", of="more time (resources", case=Ended("failed", "timeout", ("--retry", "timeout")), slow=True)
@remedy(
    "more frequent checkpoints",
    of="more time (resources",
    case=Ended("failed", "timeout", ("--retry", "timeout")),
    slow=True,
)
def a_run_that_ended_early(stopped: Any, desk: Desk, sweeps: Command, case: Ended) -> str:
    layout = stopped.layout
    value = read_json(layout.status)
    attempt = {**value["attempt"], "pid": 2**22 - 1, "birth": ""} if case.dead else value["attempt"]
    value |= {"state": case.state, "class": case.failure_class, "attempt": attempt}
    write_sealed_json(layout.status, value)
    shown = desk.works("launch/status.py toy.yaml why 0")
    following = shown.partition("next ")[2].partition("\n")[0]
    assert " ".join(case.option) in following
    more = {
        "oom": ("--set", "resources.mem_gb=2"),
        "timeout": ("--set", "resources.hours=2", "--set", "module.checkpoint.every_steps=2"),
    }.get(case.failure_class or "", ())
    # The sweep's own overrides change the plan, not the run: it goes on from step 7.
    continued = sweeps(*case.option, *more)
    status = read_json(layout.status)
    assert (status["state"], status["trained"]) == ("done", True)
    assert "after step 7" in continued
    return shown


@remedy("saved: --retry timeout continues it", slow=True)
def no_restart_left(stopped: Any, desk: Desk, sweeps: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    attempt = replace(Attempt.current({"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "9"}))
    monkeypatch.setenv("SAM2FT_MAX_RESTARTS", "3")
    with pytest.raises(NotRestartableError) as refused:
        refuse_requeue(stopped.layout, stopped.planned, attempt, warned=True)
    value = read_json(stopped.layout.status)
    write_sealed_json(
        stopped.layout.status,
        value | {"state": "failed", "class": refused.value.failure_class, "reason": str(refused.value)},
    )
    assert "0 to submit" in sweeps()
    sweeps("--retry", "timeout")
    assert read_json(stopped.layout.status)["state"] == "done"
    return str(refused.value)
