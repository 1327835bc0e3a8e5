"""The whole job as a user does it: sweep, sweep again, status, aggregate, evaluate, each in a process of its own."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.sam2
ROOT = Path(__file__).parents[1]


def run(script: str, *arguments: str, cwd: Path, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, ROOT / "launch" / script, *arguments],
        cwd=cwd, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"{script} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_point_and_a_baseline_from_yaml_to_page_and_nothing_twice(toy: Any) -> None:
    toy.write("seed: 42}", "seed: 42, baseline: true}", more="sweep: {grid: {module.num_epochs: [1]}}\n")
    here = toy.folder

    first = run("sweep.py", "toy.yaml", "--local", "2", cwd=here)
    assert "2 to submit: 0 done" in first.stdout
    report = here / "runs" / "toy" / "report"
    assert first.stdout.rstrip().endswith("runs/toy/report/index.html")

    lines = table(report / "compare.csv")
    assert [line["state"] for line in lines] == ["done"] * 2
    scored = {line["run"]: float(line["dice_slice_mean"]) for line in lines}
    assert len(scored) == len(set(scored.values())) == 2
    assert json.loads((report / "coverage.json").read_text())["complete"]
    assert {row["run"] for row in table(report / "slice.csv")} == scored.keys()
    assert len(table(report / "slice.csv")) == 2 * 2 * 4 * 2

    second = run("sweep.py", "toy.yaml", "--local", "2", cwd=here)
    assert "0 to submit: 2 done, 0 running, 0 failed" in second.stdout

    states = json.loads(run("status.py", "toy.yaml", "--json", cwd=here).stdout)
    assert [entry["state"] for entry in states] == ["done"] * 2

    before = {path.name: path.read_bytes() for path in report.glob("*.csv")}
    run("aggregate.py", "toy.yaml", "--require-complete", cwd=here)
    assert {path.name: path.read_bytes() for path in report.glob("*.csv")} == before

    best = next(here.glob("runs/toy/*/checkpoints/best.pt"))
    done = run("eval.py", "--ckpt", str(best), "--split", "val", "--set", "eval.qc_slices=0", cwd=here)
    folder = here / done.stdout.strip()
    assert folder.parent == best.parent.parent / "eval"
    assert {row["split"] for row in table(folder / "volume.csv")} == {"val"}
    assert "mean_of_labels" in done.stderr


@pytest.mark.slow
def test_an_exception_inside_training_is_exit_code_1_with_its_traceback_in_the_log(toy: Any) -> None:
    toy.write("lr: 1e-3", "lr: 1e+30")
    settings = ("--set", "module.max_skipped_steps=1", "--set", "module.visualize=false")
    done = run("train.py", "toy.yaml", *settings, cwd=toy.folder, code=1)
    assert done.stdout == ""
    (log,) = toy.folder.glob("runs/toy/*/logs/*.log")
    assert "Traceback (most recent call last)" in log.read_text()
    assert "FloatingPointError: step" in log.read_text()
    (status,) = toy.folder.glob("runs/toy/*/status.json")
    assert (json.loads(status.read_text())["state"], json.loads(status.read_text())["class"]) == ("failed", "error")
    assert "failed" in run("status.py", "toy.yaml", cwd=toy.folder).stdout
    run("aggregate.py", "toy.yaml", "--require-complete", cwd=toy.folder, code=3)
