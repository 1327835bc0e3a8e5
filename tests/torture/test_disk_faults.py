"""A file system that fails at any write of a command: one line, exit code 4, class disk; the same command heals."""

import errno
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sam2ft.core.files import read_json
from torture.campaign import Trial, contents, run
from torture.commands import TRAIN, fresh
from torture.shim.shim import Action, Fault, Nursery

NUMBERS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)
ROOT = Path(__file__).parents[2]
COMMANDS = ("prepare", "train", "eval", "aggregate")


def groups(trial: Trial, count: int, seed: int) -> Iterator[list[Fault]]:
    """`count` faults, evenly over all writes, in groups of four that go deeper: each finds what the last one left."""
    rng = random.Random(seed)
    places = [1 + int((number + rng.random()) * trial.num_calls / count) for number in range(count)]
    rng.shuffle(places)
    for start in range(0, count, 4):
        kinds = rng.sample(NUMBERS, 4)
        for_each = zip(sorted(places[start : start + 4]), kinds, strict=False)
        yield [
            Fault(at, number, Action.SHORT if rng.random() < 0.2 else Action.FAIL, once=rng.random() < 0.4)
            for at, number in for_each
        ]


@pytest.mark.timeout(1200)
@pytest.mark.sam2
@pytest.mark.parametrize("command", COMMANDS)
def test_a_failed_write_is_one_line_and_the_same_command_finishes(trials, command):
    check(trials[command], count=8, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.sam2
@pytest.mark.parametrize("command", COMMANDS)
def test_at_fifty_writes_of_each_command(trials, command):
    check(trials[command], count=50, seed=2)


def check(trial: Trial, count: int, seed: int) -> None:
    """All groups of faults; some of them must end the command."""
    codes, wrong = [], []
    for faults in groups(trial, count, seed):
        ends, found = trial.after(faults)
        codes += [ended.code for ended in ends]
        wrong += found
    assert wrong == []
    assert codes.count(4) >= count // 4, codes


@pytest.mark.sam2
@pytest.mark.parametrize("number", NUMBERS)
def test_the_status_of_a_run_says_disk_with_the_path_when_it_can_still_be_written(
    nursery: Nursery, short_toy: Path, tmp_path: Path, number: int
):
    work = fresh(short_toy, tmp_path / "work")
    ended = run(nursery, TRAIN, work, Fault(at=1, number=number, function="write", file="best.pt", once=True))
    assert ended.code == 4
    (status,) = work.glob("runs/toy/*/status.json")
    about = read_json(status)
    assert (about["state"], about["class"]) == ("failed", "disk")
    assert re.fullmatch(r"DiskError: runs/toy/\S+/checkpoints/best\.pt: .*", about["reason"])
    assert about["reason"].removeprefix("DiskError: ") in ended.err


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.sam2
def test_a_kill_inside_the_write_of_a_checkpoint_leaves_nothing_after_the_next_start(trials, nursery):
    trial = trials["train"]
    fresh(trial.template, trial.work)
    run(nursery, TRAIN, trial.work, Fault(function="write", file="safetensors"))
    count = nursery.shim.count
    assert count, "safetensors wrote nothing that the shim saw"
    for number in range(20):
        fresh(trial.template, trial.work)
        action = (Action.KILL_BEFORE, Action.KILL_INSIDE, Action.KILL_AFTER)[number % 3]
        fault = Fault(at=1 + number % count, action=action, function="write", file="safetensors")
        killed = run(nursery, TRAIN, trial.work, fault)
        assert killed.code == -9
        again = run(nursery, TRAIN, trial.work)
        assert again.code == 0, again.err
        assert contents(trial.work).keys() == trial.left.keys()


# --- file systems that are really full or closed ----------------------------------------------------------------------


def launched(command: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    call = [sys.executable, str(ROOT / "launch" / f"{command}.py"), *arguments]
    return subprocess.run(call, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 64 kB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


PAIR = ("eval", "--reference", "masks/a.nii.gz", "--prediction", "masks/a.nii.gz")
CALLS = {"prepare": ("prepare", "dataset.yaml"), "eval": PAIR}


@pytest.mark.parametrize("command", CALLS)
def test_a_full_file_system_says_so_on_every_attempt_and_the_command_finishes_when_it_has_grown(
    scans, small, tmp_path, command
):
    work = fresh(scans, tmp_path / "work")
    (small / "filler").write_bytes(bytes(40_000))
    call = (*CALLS[command], "--out", str(small / "out"))
    for _ in range(3):
        done = launched(*call, cwd=work)
        assert done.returncode == 4, done.stderr
        lines = [line for line in done.stderr.splitlines() if "full (no space left on device)" in line]
        assert len(lines) == 1
        assert lines[0].startswith(f"{small}/out")
        assert "Traceback" not in done.stderr
    assert (small / "filler").read_bytes() == bytes(40_000)
    subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
    done = launched(*call, cwd=work)
    assert done.returncode == 0, done.stderr
    assert launched(*CALLS[command], "--out", str(tmp_path / "out"), cwd=work).returncode == 0
    assert contents(small / "out").keys() == contents(tmp_path / "out").keys()


@pytest.mark.parametrize("out", ["/sys/x", "/proc/x", "dataset.yaml/x"])
@pytest.mark.parametrize("command", CALLS)
def test_a_folder_that_cannot_be_written_ends_with_2_naming_path_and_reason(scans, tmp_path, command, out):
    work = fresh(scans, tmp_path / "work")
    before = contents(work)
    done = launched(*CALLS[command], "--out", out, cwd=work)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if out in line]
    assert re.match(rf"{re.escape(out)}\S*: [a-z ]+; ", line)
    assert "Traceback" not in done.stderr
    assert contents(work) == before
