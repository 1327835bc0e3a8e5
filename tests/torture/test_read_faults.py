"""A file that cannot be read now is not damaged: no older one takes its place, nothing is made anew."""

import errno
import shutil
from pathlib import Path

import pytest

from sam2ft.core.files import read_json
from torture.campaign import contents, run
from torture.commands import EVALUATE, TRAIN, Command, fresh
from torture.shim.shim import Ended, Fault, Nursery

pytestmark = [pytest.mark.sam2, pytest.mark.slow]
# The first call opens the file, the next ones read it.
CALLS = (1, 2, 3)


@pytest.fixture(scope="module")
def stopped(nursery: Nursery, short_toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of three epochs, stopped in the save after the last one: two resume files are there."""
    folder = fresh(short_toy, tmp_path_factory.mktemp("stopped") / "toy")
    text = (folder / "toy.yaml").read_text()
    (folder / "toy.yaml").write_text(text.replace("num_epochs: 1", "num_epochs: 3"))
    ended = run(nursery, TRAIN, folder, Fault(at=3, function="rename", file=".safetensors"))
    assert ended.code == 4, ended.err
    assert len(list(folder.glob("runs/toy/*/checkpoints/*.safetensors"))) == 2
    return folder


def io_error_at(nursery: Nursery, command: Command, work: Path, file: str, at: int) -> Ended:
    """The end of a command that cannot read a file, which is told by one line and stays as it is."""
    ended = run(nursery, command, work, Fault(at=at, number=errno.EIO, file=file, reads=True))
    assert nursery.shim.hits, f"{file} is not read so often"
    assert ended.code == 4, ended.err
    told = [line for line in ended.err.splitlines() if "input/output error" in line]
    assert len(told) == 1, ended.err
    assert file in told[0]
    assert "Traceback" not in ended.err
    assert "falling back" not in ended.err
    assert "damaged (" not in ended.err
    return ended


@pytest.mark.parametrize("at", CALLS)
def test_a_training_does_not_go_back_or_begin_again_when_its_newest_resume_file_cannot_be_read(
    nursery, stopped, tmp_path, at
):
    work = fresh(stopped, tmp_path / "toy")
    (run_folder,) = work.glob("runs/toy/toy-*")
    _, newest = sorted((run_folder / "checkpoints").glob("*.safetensors"))
    kept = contents(run_folder / "checkpoints")
    io_error_at(nursery, TRAIN, work, newest.name, at)
    assert contents(run_folder / "checkpoints") == kept
    about = read_json(run_folder / "status.json")
    assert (about["state"], about["class"]) == ("failed", "disk")
    assert about["reason"].startswith(f"DiskError: {newest.relative_to(work)}: input/output error")
    again = run(nursery, TRAIN, work)
    assert again.code == 0, again.err
    assert newest.name in again.err


def test_moving_the_unreadable_file_away_is_a_remedy(nursery, stopped, tmp_path):
    work = fresh(stopped, tmp_path / "toy")
    older, newest = sorted(work.glob("runs/toy/toy-*/checkpoints/*.safetensors"))
    assert "move it away" in io_error_at(nursery, TRAIN, work, newest.name, 2).err
    shutil.move(newest, tmp_path / newest.name)
    again = run(nursery, TRAIN, work)
    assert again.code == 0, again.err
    assert older.name in again.err


@pytest.mark.parametrize("at", CALLS)
def test_a_training_does_not_make_best_pt_again_when_it_cannot_be_read(nursery, stopped, tmp_path, at):
    work = fresh(stopped, tmp_path / "toy")
    (best,) = work.glob("runs/toy/toy-*/checkpoints/best.pt")
    before = best.read_bytes(), best.stat().st_ino
    io_error_at(nursery, TRAIN, work, "best.pt", at)
    assert (best.read_bytes(), best.stat().st_ino) == before


@pytest.mark.parametrize("file", ["best.pt", "store.json", "e__image.image.npy"])
def test_an_evaluation_names_what_it_cannot_read(nursery, stopped, tmp_path, file):
    work = fresh(stopped, tmp_path / "toy")
    (best,) = work.glob("runs/toy/toy-*/checkpoints/best.pt")
    shutil.move(best, work / "best.pt")
    for at in (1, 2):
        io_error_at(nursery, EVALUATE, work, file, at)
    assert not (work / "scores" / "_SUCCESS").exists()
