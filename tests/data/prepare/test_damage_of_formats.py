"""Damaged and monstrous files of every kind: refused in one line, in silence, within memory and time."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.bombs import BOMBS
from tests.fixtures.damaged_kinds import KINDS
from tests.fixtures.peak import measured

ROOT = Path(__file__).parents[3]
MOST_GB = 1.0


def run(module: str, *arguments: str) -> Any:
    done, peak_gb = measured([sys.executable, "-m", f"tests.fixtures.{module}", *arguments], ROOT)
    assert done.returncode == 0, done.stderr
    assert peak_gb < MOST_GB
    return json.loads(done.stdout)


@pytest.mark.slow
def test_some_damage_of_every_kind_is_refused_or_changes_nothing() -> None:
    found = run("damage_of_formats", "all", "4", "11")
    assert found.keys() == KINDS.keys()
    assert {name: one["faults"] for name, one in found.items() if one["faults"]} == {}
    assert sum(one["results"].get("refused", 0) for one in found.values()) > len(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_or_changes_nothing(kind: str) -> None:
    found = run("damage_of_formats", kind, "300", "1")[kind]
    assert found["faults"] == []
    assert sum(found["results"].values()) == 300
    assert found["results"]["refused"] > 75


UNPACKED = [name for name in BOMBS if "zeros" in name]
DECLARED = [name for name in BOMBS if name not in UNPACKED]


@pytest.mark.parametrize("names", [DECLARED, pytest.param(UNPACKED, marks=pytest.mark.slow)], ids=["declare", "unpack"])
def test_small_files_that_declare_or_unpack_to_more_than_there_is_are_refused(names: list[str]) -> None:
    found = run("bombs", *names)
    assert found["faults"] == []
    assert {name for name in names if not found["answers"][name]} == set()
    assert [text for text in found["answers"].values() if "was not read within" in text] == []
