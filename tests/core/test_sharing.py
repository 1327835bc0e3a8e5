"""Permissions: those of the umask whoever writes a file, the group of a shared folder, SAM2FT_UMASK of commands."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from safetensors.numpy import save_file

from sam2ft.core.errors import UserError
from sam2ft.core.files import replacing, write_json
from sam2ft.core.folders import replacing_folder
from sam2ft.core.sharing import VARIABLE, apply_umask, current_umask
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.sweeps.lock import locked

WRITERS = {
    "a.safetensors": lambda path: save_file({"a": np.zeros(3, np.float32)}, path),
    "a.parquet": lambda path: parquet.write_table(pyarrow.table({"a": [1]}), path),
    "a.npy": lambda path: np.save(path, np.zeros(3)),
    "a.nii.gz": lambda path: nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path),
    "a.png": lambda path: Image.new("L", (2, 2)).save(path),
    "a.csv": lambda path: path.write_text("a"),
}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    """Sets the umask; it is what it was after the test."""
    before = current_umask()
    yield os.umask
    os.umask(before)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder of another group whose new files have that group."""
    folder = tmp_path / "shared"
    folder.mkdir()
    others = [group for group in (*os.getgroups(), 4711) if group != os.getegid()]
    try:
        os.chown(folder, -1, others[0])
    except PermissionError:
        pytest.skip("this user has one group only")
    folder.chmod(0o2775)
    return folder


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o027, 0o077])
@pytest.mark.parametrize("name", WRITERS)
def test_every_file_has_the_permissions_of_the_umask_whichever_library_wrote_it(tmp_path, umask, name, mask):
    umask(mask)
    with replacing(tmp_path / name) as partial:
        WRITERS[name](partial)
    assert mode(tmp_path / name) == 0o666 & ~mask


def test_a_file_loses_no_permission(tmp_path, umask):
    umask(0o077)
    with replacing(tmp_path / "run.sh") as partial:
        partial.write_text("true")
        partial.chmod(0o755)
    assert mode(tmp_path / "run.sh") == 0o755


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_the_lock_of_an_experiment_has_the_permissions_of_the_umask(tmp_path, umask, mask):
    umask(mask)
    layout = ExperimentLayout(tmp_path / "exp")
    with locked(layout):
        assert mode(layout.lock) == 0o666 & ~mask
        assert mode(layout.folder) == 0o777 & ~mask


def test_what_is_made_in_a_folder_of_a_group_belongs_to_the_group(shared, umask):
    umask(0o002)
    group = shared.stat().st_gid
    write_json(shared / "new" / "a.json", {})
    with replacing(shared / "b.safetensors") as partial:
        WRITERS["a.safetensors"](partial)
    for _ in range(2):  # made, then replaced
        with replacing_folder(shared / "report", shared / ".report") as new:
            write_json(new / "page.json", {})
    made = [path for path in shared.rglob("*") if path.parent.name != ".report"]
    assert {path.name for path in made} >= {"new", "a.json", "b.safetensors", "report", "page.json"}
    for path in made:
        assert path.stat().st_gid == group, path
        assert path.stat().st_mode & stat.S_IWGRP, path
        assert path.is_file() or path.stat().st_mode & stat.S_ISGID, path


@pytest.mark.parametrize(("text", "mask"), [("002", 0o002), ("0027", 0o027), ("77", 0o077), ("0", 0), (" 022 ", 0o022)])
def test_the_variable_sets_the_umask(umask, text, mask):
    umask(0o055)
    apply_umask({VARIABLE: text})
    assert current_umask() == mask


def test_without_the_variable_the_umask_stays(umask):
    umask(0o027)
    apply_umask({})
    apply_umask({VARIABLE: ""})
    assert current_umask() == 0o027


@pytest.mark.parametrize("text", ["0o002", "rwx", "8", "-2", "0222", "777", "u=rwx,g=rwx", "2.0"])
def test_what_is_no_umask_or_takes_rights_from_the_owner_is_refused(umask, text):
    umask(0o022)
    with pytest.raises(UserError, match=r"SAM2FT_UMASK=.*: no umask; allowed: octal digits .* such as 002"):
        apply_umask({VARIABLE: text})
    assert current_umask() == 0o022


def run(*command: str, umask: int, given: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, VARIABLE: given}
    return subprocess.run(
        [sys.executable, *command], env=environment, umask=umask, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_command_shares_everything_that_it_makes(shared):
    store = shared / "data" / "knee"
    phantom = ("--phantom", "knee", "--subjects", "3", "--out", str(store))
    done = run("-m", "sam2ft.cli.prepare", *phantom, umask=0o077, given="002")
    assert done.returncode == 0, done.stderr
    made = list((shared / "data").rglob("*"))
    assert len(made) > 10
    private = [path for path in made if not path.stat().st_mode & stat.S_IWGRP and path.suffix != ".key"]
    foreign = [path for path in made if path.stat().st_gid != shared.stat().st_gid]
    assert (private, foreign) == ([], [])


def test_a_command_with_a_wrong_variable_says_so_and_does_nothing(tmp_path):
    done = run(
        "-m", "sam2ft.cli.prepare", "--phantom", "knee", "--out", str(tmp_path / "s"), umask=0o022, given="group"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("SAM2FT_UMASK=group: no umask; allowed: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_log_of_a_job_and_all_after_it_have_the_umask_of_the_variable(tmp_path):
    program = f"""
import os, sys
from pathlib import Path
from types import SimpleNamespace
from sam2ft.jobs import job
job.planned_job = lambda *given: SimpleNamespace(log=Path({str(tmp_path / "logs" / "a.log")!r}))
job._code_of = lambda planned, stop: 0
job.main(["folder", "plan", "0", "train"])
"""
    done = run("-c", program, umask=0o077, given="002")
    assert done.returncode == 0, done.stderr
    assert mode(tmp_path / "logs" / "a.log") == 0o664
    assert mode(tmp_path / "logs") == 0o775
