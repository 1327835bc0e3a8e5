"""Thousands of damaged sources: each is refused or read, and costs neither healthy volumes nor what is stored."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.damage import KINDS
from tests.fixtures.peak import measured

ROOT = Path(__file__).parents[3]


def run(what: str, kind: str, count: int, seed: int) -> tuple[dict[str, Any], float]:
    """(what tests/fixtures/damage.py found, peak memory in GB)."""
    command = [sys.executable, "-m", "tests.fixtures.damage", what, kind, str(count), str(seed)]
    done, peak_gb = measured(command, ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), peak_gb


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_source_is_refused_alone_and_costs_nothing_that_is_stored(kind: str) -> None:
    found, peak_gb = run("campaign", kind, 700, seed=1)
    assert found["faults"] == []
    assert sum(found["results"].values()) == 700
    assert found["results"]["refused"] > 200
    assert peak_gb < 1


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("dicom", 300), ("nifti", 400), ("nrrd", 300)])
def test_sources_that_come_and_go_cost_nothing_that_is_stored(kind: str, count: int) -> None:
    found, _ = run("reruns", kind, count, seed=2)
    assert found["faults"] == []
    assert found["results"]["refused"] > count / 4
