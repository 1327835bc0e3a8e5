"""launch/sweep.py and its sisters up to the point where a job would start."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sam2ft.core.errors import ConfigError, DataError, ProblemsError, UserError
from sam2ft.core.files import write_json
from sam2ft.distributed import stop_signal
from sam2ft.runs.plan_file import load_plan
from sam2ft.runs.resources.timing_key import evaluation_key, training_key
from sam2ft.slurm.limits import SbatchAnswer
from sam2ft.slurm.partitions import ArrayLimits, ClusterLimits, Partition
from sam2ft.sweeps import lock as lock_module
from sam2ft.sweeps import sweep as sweep_module
from sam2ft.sweeps.local.pool import EndedTask
from sam2ft.sweeps.local.train_here import train_here
from sam2ft.sweeps.plan import estimate as estimate_module
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.status.table import show_status
from sam2ft.sweeps.sweep import SweepRequest, locked, sweep

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
            return [EndedTask(task.name, 0) for task in tasks]

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
    monkeypatch.setattr(sweep_module, "slurm_is_installed", lambda: False)
    sweep(request(workplace, local=None))
    assert pool.given[0][0] == 1
    assert "planned for --local 1" in capsys.readouterr().err


def test_slurm_programs_without_a_slurm_that_answers_are_no_slurm(workplace, pool, monkeypatch):
    monkeypatch.setattr(sweep_module, "slurm_is_installed", lambda: True)
    monkeypatch.setattr(sweep_module, "cluster_name", lambda: None)
    sweep(request(workplace, local=None))
    assert pool.given[0][0] == 1


def test_many_runs_need_a_yes(workplace, pool, monkeypatch):
    monkeypatch.setattr(sweep_module, "MAX_RUNS_UNASKED", 2)
    with pytest.raises(UserError, match="3 runs to start, more than 2; add --yes"):
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
    monkeypatch.setattr(stop_signal, "install_stop_handlers", stop_signal.StopFlag)
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


@pytest.mark.parametrize(
    "module", ["sweeps.sweep", "sweeps.status.table", "sweeps.state.collect", "sweeps.local.train_here"]
)
def test_no_command_of_the_login_node_imports_torch(module):
    heavy = "('torch', 'monai', 'pandas', 'matplotlib', 'skimage', 'scipy.stats', 'pyarrow', 'submitit')"
    code = f"import sys, sam2ft.cli.sweep, sam2ft.{module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_bad_input_is_a_message_and_2(workplace):
    workplace.experiment.write_text(workplace.experiment.read_text() + "sweep: {}\n")
    done = launch("sweep", str(workplace.experiment), "--dry-run", folder=workplace.folder)
    assert done.returncode == 2
    assert "duplicate key" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


# --- cost ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_a_gpu(monkeypatch):
    monkeypatch.setattr(sweep_module, "visible_gpus", lambda *_: ("0",))


def calibrated(workplace, step_s):
    """One GPU of this machine: seconds per step, 36 s of validation per epoch, 0 s per evaluated slice."""
    run = workplace.resolved().runs[0]
    asked = replace(run.planned.resources, gpus_per_node=1)
    for key, stage, found in (
        (training_key(run.experiment, asked, "here"), "train", {"step_s": step_s, "epoch_rest_s": 36.0}),
        (evaluation_key(run.experiment, run.planned.eval_ids[0], asked, "here"), "eval", {"slice_s": 0.0}),
    ):
        write_json(workplace.layout.calibration(key).result, {"stage": stage, "measured": found})


def test_more_gpu_hours_than_allowed_are_refused_before_anything_is_written(workplace, pool, with_a_gpu, capsys):
    # two trainings of 2 epochs x 2 steps: 4 x 891 s + 2 x 36 s = 1.01 h each
    calibrated(workplace, 891.0)
    before = sorted(workplace.folder.rglob("*"))
    with pytest.raises(
        UserError, match=r"--max-gpu-hours 2: these 3 runs may take 2\.0 GPU-hours; nothing was started"
    ):
        sweep(request(workplace, max_gpu_hours=2.0))
    kept = {path.name for path in set(workplace.folder.rglob("*")) - set(before)}
    assert kept <= {".digests.json", ".lock", "runs", "toy"}
    assert pool.given == []
    with pytest.raises(UserError, match="may take"):
        sweep(request(workplace, max_gpu_hours=2.0, dry_run=True))
    assert sweep(request(workplace, max_gpu_hours=2.1)) == 0


def test_an_unknown_cost_is_no_small_cost(workplace, pool, with_a_gpu):
    with pytest.raises(UserError, match=r"the cost of these 3 runs is not known .*--calibrate; nothing was started"):
        sweep(request(workplace, max_gpu_hours=1000.0))
    assert pool.given == []


def test_points_that_share_gpus_are_told_so(workplace, pool, monkeypatch, capsys):
    monkeypatch.setattr(sweep_module, "visible_gpus", lambda *_: ("0", "1"))
    sweep(request(workplace, local=2))
    assert "share" not in capsys.readouterr().err
    sweep(request(workplace, local=3, force=True))
    assert "3 points at a time share 2 GPUs; with --local 2 each has its own GPU" in capsys.readouterr().err


def test_without_gpus_no_gpu_hours_are_spent(workplace, pool):
    assert sweep(request(workplace, max_gpu_hours=0.0)) == 0


def test_the_plan_as_json_holds_classes_totals_and_unknowns_as_null(workplace, pool, with_a_gpu, capsys):
    sweep(request(workplace, dry_run=True, as_json=True))
    value = json.loads(capsys.readouterr().out)
    train, evaluate = value["classes"]
    assert (train["stage"], train["to_submit"], train["states"], train["steps"]) == ("train", 2, {"new": 2}, [4, 4])
    assert (train["step_s"], train["gpu_hours"]) == (None, {"total": None, "known": 0, "num_unknown": 2})
    assert (evaluate["stage"], evaluate["to_submit"]) == ("eval", 3)
    assert value["total"]["gpu_hours"]["total"] is None
    assert value["difference"] is None
    calibrated(workplace, 891.0)
    sweep(request(workplace, dry_run=True, as_json=True))
    value = json.loads(capsys.readouterr().out)
    assert value["total"]["gpu_hours"]["total"] == pytest.approx(2 * (4 * 891 + 72) / 3600)
    assert value["classes"][0]["known_from"] == ["calibration"]


def test_a_plan_says_what_is_different_from_the_last_one(workplace, pool, capsys):
    sweep(request(workplace))
    capsys.readouterr()
    sweep(request(workplace, dry_run=True, overrides=('sweep.grid={"module.optimizer.lr": [1e-3, 1e-5]}',)))
    shown = capsys.readouterr()
    assert "1 point added (lr=1e-05); 1 point removed (lr=0.0001)" in shown.err
    assert shown.out == "1 to submit: 2 done, 0 running, 0 failed, 1 new\n"


@pytest.mark.parametrize("failed_as", ["oom", "device"])
def test_a_retry_of_a_class_that_no_run_has_is_refused(workplace, pool, monkeypatch, capsys, failed_as):
    """A class that waits for a person starts again by its own name alone: `device` might get the same GPU again."""

    def end(place, run, somebody):
        place.write_status(run, "failed", somebody, failure_class=failed_as, reason="DeviceError")

    monkeypatch.setattr(pool, "end", staticmethod(end))
    assert sweep(request(workplace)) == 1
    found = f"--retry timeout: no failed run has this class; the 3 failed runs have {failed_as}"
    with pytest.raises(UserError, match=found):
        sweep(request(workplace, retry="timeout"))
    capsys.readouterr()
    sweep(request(workplace, dry_run=True))
    assert capsys.readouterr().out.startswith("0 to submit: 0 done, 0 running, 3 failed")
    assert sweep(request(workplace, retry=failed_as)) == 1


# --- limits of a cluster ------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch, workplace):
    """A site whose partition allows half an hour, on a Slurm that answers but is never asked to run anything."""
    (workplace.folder / "slurm" / "sites").mkdir(parents=True)
    (workplace.folder / "slurm" / "sites" / "here.yaml").write_text(
        "site: {name: here}\nslurm: {partition: main}\nreport: {hours: 0.5}\n"
    )
    main = Partition("main", "UP", True, 30.0, None, None, None, 2)
    limits = ClusterLimits("big", ArrayLimits(101), {"main": main})
    monkeypatch.setattr(sweep_module, "slurm_is_installed", lambda: True)
    monkeypatch.setattr(sweep_module, "read_limits", lambda: limits)
    monkeypatch.setattr(sweep_module, "adopt", lambda layout: ())
    monkeypatch.setattr(sweep_module, "snapshot_of", lambda layout: SlurmSnapshot({}))
    monkeypatch.setattr(estimate_module, "try_submission", lambda *_: SbatchAnswer(True, "would start at once"))
    return limits


def test_a_time_beyond_the_limit_warns_in_a_dry_run_and_is_refused_at_submission(workplace, cluster, capsys):
    asked = request(workplace, local=None, site="here")
    assert sweep(replace(asked, dry_run=True)) == 0
    assert "Slurm will not run this: train: resources.hours 1; partition main allows 0.5" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"nothing was submitted\n  train: resources\.hours 1; .*allows 0\.5"):
        sweep(asked)
    assert not list(workplace.layout.folder.glob("plan-*.json"))
    assert not workplace.layout.submissions.exists()


def test_the_report_job_is_checked_before_anything_is_submitted(workplace, cluster):
    path = workplace.folder / "slurm" / "sites" / "here.yaml"
    path.write_text("site: {name: here}\nslurm: {partition: main}\n")
    with pytest.raises(UserError, match=r"report: report\.hours 1; partition main allows 0\.5"):
        sweep(request(workplace, local=None, site="here", overrides=("resources.hours=0.5",)))


def test_a_partition_that_is_not_there_is_refused_with_those_that_are(workplace, cluster):
    path = workplace.folder / "slurm" / "sites" / "here.yaml"
    path.write_text("site: {name: here}\nslurm: {partition: gpuu}\n")
    with pytest.raises(UserError, match=r"slurm\.partition: gpuu; known: main"):
        sweep(request(workplace, local=None, site="here"))


def test_a_cluster_that_does_not_answer_leaves_a_dry_run_without_limits(workplace, cluster, monkeypatch, capsys):
    def silent():
        raise UserError("`scontrol show config` does not answer")

    monkeypatch.setattr(sweep_module, "read_limits", silent)
    asked = request(workplace, local=None, site="here")
    assert sweep(replace(asked, dry_run=True)) == 0
    assert "limits of the cluster are not checked" in capsys.readouterr().err
    with pytest.raises(UserError, match="does not answer"):
        sweep(asked)


def test_what_is_handed_over_comes_back_as_json(workplace, cluster, monkeypatch, capsys):
    from sam2ft.sweeps.submit import submit as submit_module

    given = []

    def submit(layout, plan, wanted, site, limits):
        given.append((plan.plan_id, [(entry.run.name, entry.train) for entry in wanted], site.name, limits))
        return submit_module.Submitted(1, ("7", "8"), "9", 2, 3)

    monkeypatch.setattr(submit_module, "submit", submit)
    assert sweep(request(workplace, local=None, site="here", as_json=True, overrides=("resources.hours=0.5",))) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["submitted"]["jobs"] == ["7", "8"]
    assert given == [
        (value["plan"], [("lr=0.001", True), ("lr=0.0001", True), ("baseline", False)], "here", ArrayLimits(101))
    ]
    assert [entry["arrays"] for entry in value["classes"]] == [1, 1]
