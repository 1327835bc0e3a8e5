"""What `make demo` promises, in three seeds: fine-tuning helps on subjects that it never saw."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs_walks import is_shown

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
    with (folder / "output.txt").open("a", encoding="utf-8") as stream:
        stream.write(done.stdout + done.stderr)
    return done.stdout


WHOLE_MODEL = f"""\
extends: {ROOT}/experiments/quickstart.yaml
experiment: {{name: lr_grid, baseline: true}}
sweep: {{grid: {{module.optimizer.lr: [1e-3, 5e-4], module.trainable.image_encoder: [true]}}}}
"""
"""What other seeds train: the two points of the demo that train all of the model, which help most."""


@pytest.fixture(scope="module", params=[0, 1, 2])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the demo ran once with its own seed, 0, or with half of its points and another one."""
    folder, seed = tmp_path_factory.mktemp("demo"), request.param
    cohort = ("--phantom", "knee", "--subjects", "12", "--seed", str(seed))
    run(folder, str(ROOT / "launch/prepare.py"), *cohort, "--out", "data/knee")
    experiment = ROOT / "experiments/lr_grid.yaml" if seed == 0 else folder / "whole_model.yaml"
    if seed:
        experiment.write_text(WHOLE_MODEL, encoding="utf-8")
    sweep = (str(ROOT / "launch/sweep.py"), str(experiment), "--local", "2")
    print(run(folder, *sweep, "--set", f"experiment.seed={42 + seed}"))
    return folder


of_the_demo_itself = pytest.mark.parametrize("demo", [0], indirect=True)


@pytest.mark.slow
@of_the_demo_itself
def test_the_page_is_whole_in_a_browser_and_answers_soon(
    demo: Path, opened: Callable[..., Any], walk_down: Callable[[Any], None]
) -> None:
    page = opened(demo / "runs/lr_grid/report/index.html")
    assert int(page.get_attribute("html", "data-ready")) < 3000
    walk_down(page)
    assert page.locator(".case").count() > 8
    assert page.locator("#comparison tbody tr").count() == 5


@pytest.mark.slow
def test_the_best_point_beats_the_model_it_started_from(demo: Path) -> None:
    with (demo / "runs/lr_grid/report/compare.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    best = next(line for line in lines if line["best"] == "1")
    assert {line["state"] for line in lines} == {"done"}
    assert best["n"] == "4"
    assert best["split"] == "test"
    assert float(best["dice_slice_mean_delta"]) >= LEAST_GAIN


@pytest.mark.slow
@of_the_demo_itself
def test_the_page_about_the_demo_shows_what_it_prints(demo: Path) -> None:
    page = (ROOT / "docs/start/demo.md").read_text(encoding="utf-8")
    shown = [line for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    lines = (demo / "output.txt").read_text(encoding="utf-8").splitlines()
    assert len(shown) > 10
    assert [line for line in shown if line.strip() and not is_shown(line, lines)] == []
