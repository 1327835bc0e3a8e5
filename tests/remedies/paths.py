"""Remedies of paths that cannot be read or written as they were given: each error is the system's own where it can be.

What fails is a read or a write of core/files; `_said` is the line with which a command ends then.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.errors import UserError, exit_code_of
from sam2ft.core.files import read_json, write_json
from sam2ft.core.system import path_errors
from sam2ft.core.system.path_errors import translated
from tests.remedies.registry import remedy

NOBODY = 65534


@contextmanager
def _as_anybody() -> Any:
    """Without the rights of root, which may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def _said(action: Callable[[], Any]) -> str:
    """The line and the exit code that a command would end with."""
    with pytest.raises(OSError, match=r".") as caught:
        action()
    found = translated(caught.value)
    assert isinstance(found, UserError)
    assert exit_code_of(found) == 2
    return str(found)


def _read(path: Path) -> Callable[[], Any]:
    return lambda: path.read_text(encoding="utf-8")


def _write(path: Path) -> Callable[[], Any]:
    return lambda: write_json(path, 1)


@dataclass(frozen=True)
class Given:
    """A path that fails, made in a folder; what is done with it; the path that is given instead."""

    wrong: Callable[[Path], Path]
    action: Callable[[Path], Callable[[], Any]]
    right: str = "whole.json"


def _below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "deeper" / "a.json"


def _circle(folder: Path) -> Path:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    return folder / "a" / "x.json"


def _link_to_itself(folder: Path) -> Path:
    (folder / "a.json").symlink_to("a.json")
    return folder / "a.json"


def _not_there(folder: Path) -> Path:
    return folder / "no" / "such.json"


def _long(folder: Path) -> Path:
    return folder / ("x" * 300) / "a.json"


@remedy("give a path that exists", case=(Given(_not_there, _read),))
@remedy("give another path", of="a part of the path is a file",
        case=(Given(_below_a_file, _read), Given(_below_a_file, _write, "new/a.json")))  # fmt: skip
@remedy("give a path without a circle of links", case=(Given(_circle, _read), Given(_link_to_itself, _read)))
@remedy("give a shorter path", case=(Given(_long, _read), Given(_long, _write, "x/a.json")))
def a_path_that_leads_nowhere(tmp_path: Path, case: tuple[Given, ...]) -> str:
    (tmp_path / "whole.json").write_text("1")
    shown = ""
    for number, given in enumerate(case):
        folder = tmp_path / str(number)
        folder.mkdir()
        shown = _said(given.action(given.wrong(folder)))
        given.action(tmp_path / given.right)()
    return shown


@remedy("change its permissions")
@remedy("give another path", of="change its permissions or give another path")
def a_file_that_others_may_not_open() -> str:
    # pytest's own folder lets nobody else in.
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        closed, other = folder / "closed.json", folder / "other.json"
        for path in (closed, other):
            path.write_text("1")
            path.chmod(0o644)
        for mode in (0o000, 0o200):
            closed.chmod(mode)
            with _as_anybody():
                shown = _said(closed.read_text)
                assert other.read_text() == "1"
            closed.chmod(0o644)
            with _as_anybody():
                assert closed.read_text() == "1"
        return shown
    finally:
        shutil.rmtree(folder)


@remedy("give another path", of="or remove what is there")
@remedy("remove what is there")
def a_place_that_is_taken(tmp_path: Path) -> str:
    full = tmp_path / "full"
    full.mkdir()
    (full / "a").write_text("")
    file = tmp_path / "file"
    file.write_text("")
    shown = ""
    for taken, make in (
        (full, Path.mkdir),
        (file, Path.mkdir),
        (full, lambda path: os.rename(_folder(tmp_path), path)),
    ):
        shown = _said(lambda taken=taken, make=make: make(taken))
        make(tmp_path / f"free{len(list(tmp_path.iterdir()))}")
        shutil.rmtree(taken) if taken.is_dir() else taken.unlink()
        make(taken)
        (taken / "a").write_text("")
    return shown


def _folder(parent: Path) -> Path:
    found = parent / "one"
    found.mkdir(exist_ok=True)
    (found / "b").write_text("")
    return found


def _refusing(monkeypatch: pytest.MonkeyPatch, number: int, below: Path) -> None:
    """Let the system refuse renames into a folder: a file system that is mounted so needs root."""
    replace = os.replace

    def refused(source: Any, target: Any, **options: Any) -> None:
        if Path(target).is_relative_to(below):
            raise OSError(number, os.strerror(number), os.fspath(source), None, os.fspath(target))
        replace(source, target, **options)

    monkeypatch.setattr(os, "replace", refused)
    monkeypatch.setattr(Path, "replace", refused)


@remedy("give a path that can be written", of="^give a path that can be written$", case=errno.EROFS)
@remedy("give a path on the same file system", case=errno.EXDEV)
def a_file_system_that_takes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: int) -> str:
    monkeypatch.setattr(path_errors, "_WRITTEN", set())
    (tmp_path / "away").mkdir()
    _refusing(monkeypatch, case, tmp_path / "away")
    shown = _said(_write(tmp_path / "away" / "a.json"))
    assert not (tmp_path / "away" / "a.json").exists()
    write_json(tmp_path / "here.json", 1)
    assert read_json(tmp_path / "here.json") == 1
    return shown
