"""The local pool with real children: what is shown meanwhile, and what becomes of a point that is killed."""

import io
import sys

import pytest
from rich.console import Console

from sam2ft.core.files import write_text
from sam2ft.runs.plan_file import save_plan
from sam2ft.sweeps import sweep as sweep_module
from sam2ft.sweeps.local.pool import LocalTask
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.status import progress as progress_module
from sam2ft.sweeps.status.progress import progress
from sam2ft.sweeps.status.table import show_status
from sam2ft.sweeps.sweep import run_locally

CHILD = """
import os, signal, socket, sys
from pathlib import Path
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.attempt.claim import Attempt, claim
from sam2ft.runs.attempt.status import update_status
run = ExperimentLayout(Path(sys.argv[1])).run(sys.argv[2])
attempt = Attempt.current({})
claim(run, attempt)
update_status(run, attempt, state="training")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("speaks", [True, False])
def test_a_point_that_is_killed_is_told_and_ends_the_sweep_with_1(workplace, attempt, monkeypatch, capsys, speaks):
    plan = workplace.plan()
    save_plan(workplace.layout, plan)
    monkeypatch.setattr(sweep_module, "aggregate", lambda layout, plan: None)
    code = CHILD if speaks else "import os; os.kill(os.getpid(), 9)"

    def killed(layout, plan, run):
        command = [sys.executable, "-c", code, str(layout.folder), run.run_id]
        return LocalTask(run.run_id, command, layout.run(run.run_id).child_output)

    monkeypatch.setattr(sweep_module, "_task", killed)
    assert run_locally(workplace.layout, plan, plan.runs[:1], 2) == 1
    assert "lr=0.001: ended with code -9" in capsys.readouterr().err
    show_status(workplace.experiment)
    first = capsys.readouterr().out.splitlines()[1]
    assert ("lost" if speaks else "new") in first
    assert ("has ended without reporting a status" in first) == speaks


@pytest.fixture
def terminal(monkeypatch):
    """stderr is a terminal of 100 columns; returns what was written to it."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    monkeypatch.setattr(progress_module, "Console", lambda **_: console)
    return stream


def test_the_live_table_asks_slurm_once(workplace, terminal, monkeypatch):
    asked = []
    monkeypatch.setattr(progress_module, "snapshot_of", lambda layout: asked.append(layout) or SlurmSnapshot({}))
    monkeypatch.setattr("sam2ft.sweeps.state.collect.snapshot_of", lambda layout: pytest.fail("asked again"))
    monkeypatch.setattr(progress_module, "_REFRESH_S", 0.0)
    plan = workplace.plan()
    with progress(workplace.layout, plan, plan.runs) as show:
        for _ in range(5):
            show(("x",))
    assert len(asked) == 1
    assert "lr=0.0001" in terminal.getvalue()


def test_a_damaged_status_does_not_stop_the_pool(workplace, monkeypatch, capsys):
    plan = workplace.plan()
    monkeypatch.setattr(progress_module, "_REFRESH_S", 0.0)
    with progress(workplace.layout, plan, plan.runs) as show:
        write_text(workplace.run(plan.runs[0]).status, '{"state": ')
        show((plan.runs[0].run_id,))
    assert "status.json: not a JSON file" in capsys.readouterr().err
