"""Remedies of tools of developers and of paths and tables."""

import os
from pathlib import Path

import pytest

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.system.path_errors import translated
from sam2ft.core.tables.rows import cell
from sam2ft.tools import download_weights
from sam2ft.tools.licences import refused
from tests.remedies.registry import remedy


@remedy("remove what is there")
def a_path_that_is_taken(tmp_path: Path) -> str:
    shown = ""
    (tmp_path / "new").mkdir()
    for content in ("file", "folder", "folder that is not empty"):
        there = tmp_path / content
        if content == "file":
            there.touch()
        else:
            there.mkdir()
        if "not" in content:
            (there / "a").touch()
        action = os.rename if "not" in content else lambda _, path: path.mkdir()
        with pytest.raises(OSError, match=r"exists|not empty") as caught:
            action(tmp_path / "new", there)
        shown += str(translated(caught.value))
        if "not" in content:
            (there / "a").unlink()
        if there.is_dir():
            there.rmdir()
        else:
            there.unlink()
        action(tmp_path / "new", there)
        assert there.is_dir()
    return shown


@remedy("use status or 0/1")
def a_boolean_in_a_table() -> str:
    for value in (True, False):
        with pytest.raises(TypeError) as caught:
            cell(value)
        assert cell(int(value)) == str(int(value))
    assert cell("ok") == "ok"
    return str(caught.value)


@remedy("replace it", of="dependencies are permissive")
def a_dependency_under_a_licence_that_is_not_allowed() -> str:
    shown = ""
    for licence in ("GPL-3.0-only", "MIT AND AGPL-3.0-only", "LicenseRef-unknown"):
        (line,) = refused({"numpy": "BSD-3-Clause", "bad": licence})
        shown += line
        assert not list(refused({"numpy": "BSD-3-Clause", "good": "MIT OR GPL-3.0-only"}))
    return shown


@remedy("use it with module.sam2_model_cfg: {}, module.sam2_checkpoint: {}")
def official_weights(toy: object, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(download_weights, "_is_of", lambda official: lambda path: None)
    Path("here").mkdir()
    names = ("sam2.1_hiera_tiny", "sam2_hiera_large", "sam2.1_hiera_base_plus")
    for name in names:
        Path("here", download_weights.OFFICIAL[name].file_name).write_bytes(b"weights")
    download_weights.main(["--from", "here", *names])
    shown = capfd.readouterr().err
    lines = [line.removeprefix("use it with ") for line in shown.splitlines() if line.startswith("use it with")]
    assert len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        module = load_experiment(Path("toy.yaml"), line.replace(": ", "=").split(", ")).experiment.module
        assert module.sam2_model_cfg == download_weights.OFFICIAL[name].config
        assert module.sam2_checkpoint is not None
        assert module.sam2_checkpoint.is_file()
    return shown
