"""Every example of docs/sweep.md gives the points that it says."""

import re
from pathlib import Path
from typing import Any

import pytest

from sam2ft.config.load_experiment import load_experiment

PAGE = (Path(__file__).parents[3] / "docs" / "sweep.md").read_text(encoding="utf-8")
ROWS = [
    (cells[0].strip().strip("`"), re.findall(r"`([^`]+)`", cells[1]))
    for cells in (line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| `{"))
]


@pytest.mark.parametrize(("sweep", "points"), ROWS, ids=[sweep[:60] for sweep, _ in ROWS])
def test_examples_have_the_points_that_the_page_says(write: Any, minimal: str, sweep: str, points: list[str]) -> None:
    loaded = load_experiment(write(f"{minimal}sweep: {sweep}\n"))
    assert [point.name for point in loaded.points] == points


def test_every_form_has_an_example() -> None:
    assert len(ROWS) > 15
    for form in ("grid", "zip", "list", "range", "logrange", "random", "sobol", "seeds", "when", "include", "exclude",
                 "points", "overrides", "choice", "uniform", "int", "resources."):  # fmt: skip
        assert any(f"{form}" in sweep for sweep, _ in ROWS), form


def test_the_first_example_loads(write: Any, minimal: str) -> None:
    text = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)[0]
    # AdamW 5 rates; SGD 3 rates above 5e-5 with 2 momenta each; 3 seeds.
    assert len(load_experiment(write(minimal + text)).points) == (5 + 3 * 2) * 3
