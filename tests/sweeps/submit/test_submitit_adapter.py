"""The contract with submitit's private names: what is written runs the function, on every allowed version."""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sam2ft.slurm.batch_script import BatchJob, work_parameters
from sam2ft.sweeps.submit.submitit_adapter import write_batch

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
def test_a_script_runs_the_function_of_its_element(
    slurm: Any, runs_of: Any, tmp_path: Path, count: int, element: dict[str, str]
) -> None:
    """Pickles and entry point are submitit's; Python's own mkdir is the function."""
    (tmp_path / "fake" / "srun").write_text(SRUN.format(python=sys.executable))
    batch = BatchJob("name", runs_of(1)[0].resources, count)
    scripts = tmp_path / "scripts"
    made = [tmp_path / f"made-{position}" for position in range(count)]
    chosen = work_parameters(batch, slurm.site, tmp_path, scripts)
    script = write_batch(scripts, chosen, os.mkdir, [(str(path),) for path in made], slurm.site)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    done = subprocess.run(
        ["bash", script], env=environment | TASK | element, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [path.is_dir() for path in made] == [position == count - 1 for position in range(count)]


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
