"""What `make demo` promises, in three seeds: fine-tuning helps on subjects that it never saw."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEAST_GAIN = 0.03
"""Mean slice Dice over labels and the 4 test subjects, best point (by validation) minus baseline."""


def run(folder: Path, *arguments: str) -> str:
    # The pool divides the cores among its workers itself.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_point_beats_the_model_it_started_from(tmp_path: Path, seed: int) -> None:
    store = tmp_path / "data" / "knee"
    cohort = ("--phantom", "knee", "--subjects", "12", "--seed", str(seed))
    run(tmp_path, str(ROOT / "launch/prepare.py"), *cohort, "--out", str(store))
    sweep = (str(ROOT / "launch/sweep.py"), str(ROOT / "experiments/lr_grid.yaml"), "--local", "2")
    print(run(tmp_path, *sweep, "--set", f"experiment.seed={42 + seed}"))

    with (tmp_path / "runs/lr_grid/report/compare.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    best = next(line for line in lines if line["best"] == "1")
    assert {line["state"] for line in lines} == {"done"}
    assert best["n"] == "4"
    assert best["split"] == "test"
    assert float(best["dice_slice_mean_delta"]) >= LEAST_GAIN
