"""The command `sam2ft`: its subcommands, completion scripts, and the text for bug reports."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from sam2ft.cli import doctor, main
from sam2ft.core.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sam2ft"])


def sam2ft(*arguments: str, cwd: Path = ROOT, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sam2ft.cli.main", *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_help_names_every_command_of_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main([])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    files = {path.stem for path in (ROOT / "sam2ft" / "cli").glob("*.py")} - {"__init__", "main"}
    assert files == set(main.COMMANDS)
    assert [name for name in main.COMMANDS if f"    {name}" not in text] == []


@pytest.mark.parametrize("name", main.COMMANDS)
def test_each_command_has_its_own_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: sam2ft {name} ")


def test_a_command_gets_its_arguments_and_its_exit_code_is_the_end(toy: Any) -> None:
    done = sam2ft("sweep", "toy.yaml", "--dry-run", "--local", "1", cwd=toy.folder)
    assert done.returncode == 0, done.stderr
    assert "2 to submit: 0 done" in done.stdout
    assert sam2ft("sweep", "nowhere.yaml", cwd=toy.folder).returncode == 2


def test_an_unknown_command_is_a_message_and_2() -> None:
    with pytest.raises(UserError, match="sam2ft swep: no such command; did you mean sweep"):
        main.main(["swep"])
    done = sam2ft("nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sam2ft nothing: no such command; allowed: scan, prepare, train")


def test_the_version_is_that_of_the_package() -> None:
    assert sam2ft("--version").stdout == f"sam2ft {metadata.version('sam2ft')}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_completion_script_knows_commands_and_options(shell: str) -> None:
    text = sam2ft("completion", shell).stdout
    assert all(word in text for word in (*main.COMMANDS, "--dry-run", "--phantom-check", "--require-complete"))


def test_bash_completes_a_command_and_an_option(tmp_path: Path) -> None:
    (tmp_path / "sam2ft.bash").write_text(sam2ft("completion", "bash").stdout)
    for words, expected in (("sam2ft sw", "sweep"), ("sam2ft sweep --dry", "--dry-run")):
        given = words.split()
        program = (
            f"source {tmp_path}/sam2ft.bash; COMP_WORDS=({words}); COMP_CWORD={len(given) - 1}; "
            f'COMP_LINE="{words}"; COMP_POINT={len(words)}; _shtab_sam2ft; echo "${{COMPREPLY[@]}}"'
        )
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        assert expected in done.stdout.split()


def test_doctor_shows_versions_disk_and_stores_and_names_one_that_is_damaged(
    toy: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (toy.folder / "data" / "bad").mkdir()
    (toy.folder / "data" / "bad" / "store.json").write_text("{")
    monkeypatch.setenv("PATH", str(toy.folder))
    assert main.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    sections = [line for line in lines if line.startswith("[")]
    assert sections == ["[sam2ft]", "[machine]", "[torch]", "[slurm]", "[disk]", "[stores]"]
    shown = dict(line.split(maxsplit=1) for line in lines if " " in line)
    assert shown["sam2ft"] == metadata.version("sam2ft")
    assert shown["data/toy"] == "2 labels; volumes: train 3, val 1, test 2"
    assert shown["data/bad"].startswith("cannot be read: ")
    assert "not on PATH" in shown["sbatch,"]


def test_doctor_without_torch_or_stores_still_answers(
    in_empty_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "import torch           failed: " in text
    assert "none in data/" in text


def test_doctor_shows_the_last_line_of_a_slurm_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sbatch", "squeue", "scontrol"):
        (tmp_path / name).write_text("#!/bin/sh\necho one >&2; echo 'fatal: no configuration' >&2; exit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert dict(doctor.slurm_facts()) == {"version": "fatal: no configuration", "cluster": "does not answer"}
