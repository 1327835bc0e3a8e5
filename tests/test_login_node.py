"""On a login node nothing imports torch, and a plan is there before one has lost patience."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = ("prepare", "train", "eval", "sweep", "status", "aggregate")
HEAVY = ("torch", "torchvision", "sam2", "monai", "pandas", "matplotlib", "skimage")
HELP_TARGET_S, HELP_LIMIT_S = 0.6, 3.0
"""The promise, and what a busy machine is allowed to make of it."""


def imported_by(code: str, cwd: Path = ROOT) -> str:
    """Those of HEAVY that a new interpreter has imported after `code`, as text; what `code` prints is not kept."""
    found = f"' '.join(set({HEAVY}) & set(sys.modules)).encode()"
    code = f"import os, sys\nout = os.dup(1); os.dup2(2, 1)\n{code}\nos.write(out, {found})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_this_test_would_see_torch() -> None:
    assert imported_by("import sys, types; sys.modules['torch'] = types.ModuleType('torch')") == "torch"


def test_importing_the_launchers_and_the_job_imports_nothing_heavy() -> None:
    commands = [f"{package}.{name}" for package in ("launch", "sam2ft.cli") for name in COMMANDS]
    modules = [*commands, "sam2ft.jobs.job", "sam2ft.sweeps.sweep", "sam2ft.sweeps.state.collect"]
    assert imported_by(f"import {', '.join(modules)}") == ""


@pytest.mark.parametrize("arguments", [("toy.yaml", "--dry-run"), ("toy.yaml", "--dry-run", "--json")])
def test_a_dry_run_of_a_sweep_imports_nothing_heavy(toy: Any, arguments: tuple[str, ...]) -> None:
    toy.write(more="sweep: {grid: {module.optimizer.lr: [1e-3, 1e-4]}}\n")
    before = toy.files()
    code = f"import sys, sam2ft.cli.sweep; sys.argv[1:] = {list(arguments)}; assert not sam2ft.cli.sweep.main()"
    assert imported_by(code, toy.folder) == ""
    after = toy.files()
    after.pop("runs/.digests.json", None)  # remembered digests of weights: a cache
    assert after == before


def test_help_comes_at_once() -> None:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "launch/sweep.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - started)
    assert "--dry-run" in done.stdout
    print(f"launch/sweep.py --help: {min(times):.2f} s (target {HELP_TARGET_S} s)")
    assert min(times) < HELP_LIMIT_S
