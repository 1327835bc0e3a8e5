"""launch/sweep.py and its sisters up to the point where a job would start."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam2ft.cluster import lock as lock_module
from sam2ft.cluster import sweep as sweep_module
from sam2ft.cluster.here import train_here
from sam2ft.cluster.local import Ended
from sam2ft.cluster.status import show_status
from sam2ft.cluster.sweep import SweepRequest, locked, sweep
from sam2ft.core.errors import ConfigError, DataError, ProblemsError, UserError
from sam2ft.engine import interrupt
from sam2ft.run.planned import load_plan

ROOT = Path(__file__).parents[2]


def launch(script, *arguments, folder=ROOT):
    command = [sys.executable, str(ROOT / "launch" / f"{script}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def request(workplace, **settings):
    return SweepRequest(workplace.experiment, **({"local": 1} | settings))


@pytest.fixture
def pool(monkeypatch, workplace, attempt):
    """Stands for the local pool: notes what it is given, and finishes or fails every run."""
    given = []

    class Pool:
        def __init__(self, workers, **_):
            self.workers = workers

        def run(self, tasks):
            given.append((self.workers, [task.command[-2:] for task in tasks]))
            plan = load_plan(workplace.layout, tasks[0].command[-3])
            for task in tasks:
                Pool.end(workplace, plan.run(int(task.command[-2])), attempt())
            return [Ended(task.name, 0) for task in tasks]

        end = staticmethod(lambda place, run, somebody: place.finish(run, somebody))

    monkeypatch.setattr(sweep_module, "Pool", Pool)
    monkeypatch.setattr(sweep_module, "aggregate", lambda layout, plan: None)
    Pool.given = given
    return Pool


def test_a_second_call_finds_nothing_to_do_and_says_so(workplace, pool, capsys):
    assert sweep(request(workplace, local=2)) == 0
    assert capsys.readouterr().out == "3 to submit: 0 done, 0 running, 0 failed, 3 new\n"
    assert pool.given == [(2, [["0", "train_eval"], ["1", "train_eval"], ["2", "eval"]])]
    assert sweep(request(workplace, local=2)) == 0
    assert capsys.readouterr().out == "0 to submit: 3 done, 0 running, 0 failed\n"
    assert len(pool.given) == 1


def test_a_failed_point_ends_the_sweep_with_1_and_is_left_alone_until_asked(workplace, pool, monkeypatch, capsys):
    def end(place, run, somebody):
        if run.index == 1:
            place.write_status(run, "failed", somebody, failure_class="error", reason="ValueError: odd")
        else:
            place.finish(run, somebody)

    monkeypatch.setattr(pool, "end", staticmethod(end))
    assert sweep(request(workplace)) == 1
    assert sweep(request(workplace)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 to submit: 2 done, 0 running, 1 failed"
    assert sweep(request(workplace, retry="failed")) == 1
    assert pool.given[-1] == (1, [["1", "train_eval"]])


def test_a_dry_run_writes_nothing(workplace, pool, capsys):
    before = sorted(workplace.folder.rglob("*"))
    assert sweep(request(workplace, dry_run=True)) == 0
    assert "3 to submit" in capsys.readouterr().out
    after = sorted(workplace.folder.rglob("*"))
    # The digests of large files are remembered; nothing else.
    assert {path.name for path in set(after) - set(before)} == {"runs", ".digests.json"}
    assert pool.given == []


def test_problems_leave_everything_untouched(workplace, pool):
    before = sorted(workplace.folder.rglob("*"))
    with pytest.raises(ProblemsError, match=r"--set: module\.num_epoch: .*num_epochs"):
        sweep(request(workplace, overrides=("module.num_epoch=3",)))
    assert sorted(workplace.folder.rglob("*")) == before


def test_json_goes_to_stdout_alone(workplace, pool, capsys):
    sweep(request(workplace, dry_run=True, as_json=True))
    value = json.loads(capsys.readouterr().out)
    assert [run["submit"] for run in value["runs"]] == [True, True, True]
    assert [run["state"] for run in value["runs"]] == ["new", "new", "new"]


def test_without_site_and_slurm_the_plan_is_for_one_local_worker_and_says_so(workplace, pool, monkeypatch, capsys):
    monkeypatch.setattr(sweep_module, "slurm_is_here", lambda: False)
    sweep(request(workplace, local=None))
    assert pool.given[0][0] == 1
    assert "planned for --local 1" in capsys.readouterr().err


def test_slurm_programs_without_a_slurm_that_answers_are_no_slurm(workplace, pool, monkeypatch):
    monkeypatch.setattr(sweep_module, "slurm_is_here", lambda: True)
    monkeypatch.setattr(sweep_module, "cluster_name", lambda: None)
    sweep(request(workplace, local=None))
    assert pool.given[0][0] == 1


def test_many_runs_need_a_yes(workplace, pool, monkeypatch):
    monkeypatch.setattr(sweep_module, "MAX_RUNS_UNASKED", 2)
    with pytest.raises(UserError, match="3 runs to start, more than 2; say --yes"):
        sweep(request(workplace))
    assert sweep(request(workplace, yes=True)) == 0


def test_contradictions_and_unknown_sites_are_refused(workplace, pool):
    with pytest.raises(UserError, match="exclude each other"):
        sweep(request(workplace, site="x", local=1))
    with pytest.raises(UserError, match="--local 0"):
        sweep(request(workplace, local=0))
    with pytest.raises(ConfigError, match="site 'nowhere'"):
        sweep(request(workplace, site="nowhere", local=None))


def test_two_launchers_do_not_plan_at_the_same_moment(workplace, pool, monkeypatch):
    monkeypatch.setattr(lock_module, "LOCK_WAIT_S", 0.1)
    with locked(workplace.layout), pytest.raises(UserError, match=rf"another launcher .*process {os.getpid()} on "):
        sweep(request(workplace))


def test_status_shows_the_newest_plan(workplace, pool, capsys):
    with pytest.raises(DataError, match=r"run launch/sweep\.py first"):
        show_status(workplace.experiment)
    sweep(request(workplace))
    capsys.readouterr()
    show_status(workplace.experiment, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["state"]) for row in rows] == [
        ("lr=0.001", "done"),
        ("lr=0.0001", "done"),
        ("baseline", "done"),
    ]
    show_status(workplace.layout.folder, only_failed=True, as_json=True)
    assert json.loads(capsys.readouterr().out) == []
    show_status(workplace.experiment)
    assert "lr=0.0001" in capsys.readouterr().out


def test_training_one_of_several_points_needs_to_know_which(workplace, monkeypatch):
    # The handlers of a training would outlive this test.
    monkeypatch.setattr(interrupt, "install", interrupt.StopFlag)
    with pytest.raises(UserError, match=r"choose one with --point: 0 lr=0\.001, 1 lr=0\.0001"):
        train_here(workplace.experiment, (), point=None, fresh=False)
    with pytest.raises(UserError, match="--point 2; this experiment has the points 0 to 1"):
        train_here(workplace.experiment, (), point=2, fresh=False)


@pytest.mark.parametrize("script", ["sweep", "status", "aggregate", "train", "eval", "prepare"])
def test_help_answers_at_once(script):
    times = []
    for _ in range(3):
        start = time.monotonic()
        done = launch(script, "--help")
        times.append(time.monotonic() - start)
        assert done.returncode == 0
    assert min(times) < 0.6


@pytest.mark.parametrize("module", ["cluster.sweep", "cluster.status", "cluster.collect", "cluster.here"])
def test_no_command_of_the_login_node_imports_torch(module):
    heavy = "('torch', 'monai', 'pandas', 'matplotlib', 'skimage', 'scipy.stats', 'pyarrow', 'submitit')"
    code = f"import sys, launch.sweep, sam2ft.{module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_bad_input_is_a_message_and_2(workplace):
    workplace.experiment.write_text(workplace.experiment.read_text() + "sweep: {}\n")
    done = launch("sweep", str(workplace.experiment), "--dry-run", folder=workplace.folder)
    assert done.returncode == 2
    assert "duplicate key" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
