"""A scan of a folder, as the command does it."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2ft.cli import scan
from sam2ft.data.scan.shown import Overview


@pytest.fixture
def look(in_folder: Path) -> Callable[..., Overview]:
    """Scan `knees` (or another folder) with options; the result of the scan."""

    def look(options: str = "knees") -> Overview:
        given = scan.parser().parse_args(shlex.split(options))
        return scan.look_through(given, scan.choice_of(given.series), lambda *_: None)

    return look


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def command(in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[[str], tuple[str, str]]:
    """Run a command line of sam2ft that succeeds; (stdout, stderr)."""

    def run(line: str) -> tuple[str, str]:
        from sam2ft.cli.main import main

        words = shlex.split(line)
        monkeypatch.setattr(sys, "argv", ["sam2ft", *words])
        assert main(words) == 0
        shown = capsys.readouterr()
        return shown.out, shown.err

    return run
