"""The batch scripts, word for word, one per resource class; and when a job is warned."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.attempt.status import RunStatus
from sam2ft.runs.plan_file import Plan, Resources
from sam2ft.slurm.batch_script import python_command
from sam2ft.slurm.site import load_site
from sam2ft.sweeps.submit.stop_lead import stop_lead_s

GOLDEN = Path(__file__).parent / "golden"
ACCEPT = "SAM2FT_ACCEPT"
ONE_GPU = Resources(nodes=1, tasks_per_node=1, gpus_per_node=1, cpus_per_task=8, mem_gb=64.0, hours=12.0)
TWO_BY_TWO = Resources(nodes=2, tasks_per_node=2, gpus_per_node=2, cpus_per_task=8, mem_gb=128.0, hours=24.0)
CPU = Resources(nodes=1, tasks_per_node=1, gpus_per_node=0, cpus_per_task=4, mem_gb=7.5, hours=0.5)
CONTAINER = """\
site: {name: boxed}
slurm:
  partition: gpu
  exclude: "n[7-9]"
  reservation: course
  gpu_option: gres
  wckey: knee
  modules: [apptainer/1.3, cuda/12.4]
  environment: {HF_HOME: /data/hf cache, NCCL_DEBUG: WARN}
  scratch: /scratch/$USER
  python: /opt/venv/bin/python
  container: apptainer exec --nv --bind /data /images/sam2ft.sif
  mail: someone@example.org
  max_restarts: 5
report: {partition: cpu, qos: short, cpus_per_task: 2, mem_gb: 8, hours: 0.5}
"""


def shown(slurm, job):
    """A script without what differs from machine to machine and from call to call."""
    text = slurm.script(job).replace(str(Path.cwd()), "/home/user").replace(sys.executable, "python")
    return re.sub(r"s2ft-toy-[0-9a-f]{8}-1-[0-9a-f]{6}-", "s2ft-toy-01234567-1-abcdef-", text)


def assert_golden(name, text):
    path = GOLDEN / name
    if os.environ.get(ACCEPT):
        path.write_text(text)
    expected = path.read_text() if path.is_file() else ""
    assert text == expected, f"{path.name} is not what it was; if the new text is meant: {ACCEPT}=1 pytest {__file__}"


def boxed(folder):
    (folder / "sites" / "boxed.yaml").write_text(CONTAINER)
    return load_site("boxed", folder / "sites")


@pytest.mark.parametrize(("name", "resources", "count"), [
    ("cpu", CPU, 2), ("one-gpu", ONE_GPU, 1), ("two-nodes-two-gpus", TWO_BY_TWO, 2),
])  # fmt: skip
def test_scripts_of_a_training_and_its_evaluation(slurm, runs_of, name, resources, count):
    slurm.sweep(Plan("toy", "/toy.yaml", False, runs_of(count, resources)))
    assert_golden(f"{name}-train.sh", shown(slurm, "100"))
    assert_golden(f"{name}-eval.sh", shown(slurm, "101"))


def test_script_of_the_report(slurm, runs_of):
    slurm.sweep(Plan("toy", "/toy.yaml", False, runs_of(2, CPU)))
    assert_golden("report.sh", shown(slurm, "102"))


def test_scripts_with_a_container_modules_and_a_report_of_its_own_kind(slurm, runs_of, tmp_path):
    plan = Plan("toy", "/toy.yaml", False, runs_of(2, TWO_BY_TWO))
    slurm.sweep(plan, site=boxed(tmp_path))
    assert_golden("container-train.sh", shown(slurm, "100"))
    assert_golden("container-report.sh", shown(slurm, "102"))
    # Mail comes from the report alone: one for a whole sweep.
    assert ["--mail-user" in slurm.script(job) for job in ("100", "101", "102")] == [False, False, True]
    # Requeueing needs scontrol, which containers do not have: it stays outside.
    tail = slurm.script("100").partition("# teardown")[2]
    assert "scontrol requeue" in tail
    assert "apptainer" not in tail


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.sh")))
def test_every_script_is_one_that_bash_understands(name):
    subprocess.run(["bash", "-n", GOLDEN / name], check=True)


def test_gpus_are_asked_for_per_node_or_as_gres(slurm, runs_of, tmp_path):
    plan = Plan("toy", "/toy.yaml", False, runs_of(1, TWO_BY_TWO))
    slurm.sweep(plan)
    lines = slurm.script("100").splitlines()
    assert "#SBATCH --gpus-per-node=2" in lines
    assert "#SBATCH --ntasks-per-node=2" in lines
    assert not [line for line in lines if "--gres" in line]
    other = Plan("toy", "/toy.yaml", False, runs_of(1, TWO_BY_TWO, first=1))
    slurm.sweep(other, site=boxed(tmp_path))
    lines = slurm.script("103").splitlines()
    assert "#SBATCH --gres=gpu:2" in lines
    assert not [line for line in lines if "gpus-per-node" in line]


def test_the_container_wraps_python_alone(tmp_path):
    (tmp_path / "sites").mkdir()
    site = boxed(tmp_path)
    assert python_command(site, "/usr/bin/python3") == (
        "apptainer exec --nv --bind /data /images/sam2ft.sif /opt/venv/bin/python"
    )


def status(**values):
    now = "2026-01-01T00:00:00+00:00"
    return RunStatus("training", Attempt("1", 0, "n1", 1, now), now, **values)


@pytest.mark.parametrize(("statuses", "hours", "lead_s"), [
    ([], 12.0, 180),  # what the site says
    ([None, status()], 12.0, 180),
    ([status(step_s=20.0, save_s=15.0)], 12.0, 180),  # 60 + 2 x 20 + 15 = 115
    ([status(step_s=20.0), status(step_s=90.0, save_s=30.0)], 12.0, 270),  # 60 + 2 x 90 + 30
    ([status(step_s=600.0)], 0.5, 900),  # never more than half of the time limit
    ([], 1 / 30, 60),
])  # fmt: skip
def test_a_job_is_warned_early_enough_for_two_steps_and_a_checkpoint(statuses, hours, lead_s):
    assert stop_lead_s(180, Resources(1, 1, 0, 1, 1.0, hours), statuses) == lead_s
