"""The contract with submitit's private names: what is written runs our command, on every allowed version."""

import configparser
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sam2ft.slurm.batch_script import BatchJob, element_word, work_parameters
from sam2ft.sweeps.submit.submitit_adapter import module_command, write_batch

ROOT = Path(__file__).parents[3]
# srun without a Slurm: the command alone, without srun's options.
SRUN = """\
#!/bin/sh
while [ "$1" != "{python}" ]; do shift; done
exec "$@"
"""
TASK = {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1"}


@pytest.mark.parametrize(
    ("count", "element"),
    [
        (1, {"SLURM_JOB_ID": "100"}),
        (3, {"SLURM_ARRAY_JOB_ID": "100", "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": "103"}),
    ],
)
def test_a_script_runs_the_command_of_its_element(
    slurm: Any, runs_of: Any, tmp_path: Path, count: int, element: dict[str, str]
) -> None:
    """A module beside the script takes the place of ours: it writes down its arguments."""
    (tmp_path / "told.py").write_text("import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])")
    (tmp_path / "fake" / "srun").write_text(SRUN.format(python=sys.executable))
    batch = BatchJob("name", runs_of(1)[0].resources, count)
    scripts = tmp_path / "scripts"
    words = shlex.quote(str(tmp_path / "made by it")), element_word(count)
    command = module_command(slurm.site, "told", *words)
    script = write_batch(scripts, work_parameters(batch, slurm.site, tmp_path), command)
    assert "submitit.core" not in script.read_text()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    environment |= {"PYTHONPATH": str(tmp_path)} | TASK | element
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made by it").read_text() == str(count - 1)


@pytest.mark.slow
def test_the_lowest_allowed_version_writes_and_runs_the_same(tmp_path: Path) -> None:
    """The highest one is installed: it is pinned in requirements/run.txt."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lowest = re.search(r"^submitit>=([\d.]+)", setup["options"]["install_requires"], re.MULTILINE)
    assert lowest is not None
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*pip, f"submitit=={lowest[1]}"], check=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    code = "import submitit; print(submitit.__file__, submitit.__version__)"
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.startswith(f"{tmp_path}/submitit/__init__.py {lowest[1]}")
    tests = [str(Path(__file__).with_name(name)) for name in ("test_scripts.py", Path(__file__).name)]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
