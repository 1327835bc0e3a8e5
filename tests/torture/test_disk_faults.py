"""A file system that fails at any write of a command: one line, exit code 4, class disk; the same command heals."""

import errno
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sam2ft.core.files import read_json
from torture.campaign import Trial, contents, run
from torture.commands import TRAIN, fresh
from torture.shim.shim import Action, Fault, Nursery

NUMBERS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)
ROOT = Path(__file__).parents[2]
# Faults one after the other in one folder.
DEPTH = 4
# Faults of each command, of which SAM2FT_FAULTS=1 plants all: that takes a quarter of an hour.
MANY = {"prepare": 95, "train": 35, "eval": 40, "aggregate": 30}
SHARE = float(os.environ.get("SAM2FT_FAULTS", "0.3"))


def faults_over(num_calls: int, count: int, seed: int) -> list[Fault]:
    """`count` faults, evenly over all writes, in random order; all error numbers, some short writes, some pass."""
    rng = random.Random(seed)
    faults = [
        Fault(
            1 + int((number + rng.random()) * num_calls / count),
            NUMBERS[number % 4],
            Action.SHORT if rng.random() < 0.2 else Action.FAIL,
            once=rng.random() < 0.4,
        )
        for number in range(count)
    ]
    rng.shuffle(faults)
    return faults


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.sam2
@pytest.mark.parametrize(("command", "count"), MANY.items())
def test_a_failed_write_of_every_command_is_one_line_and_the_same_command_finishes(trial, command, count):
    check(trial(command), round(SHARE * count), seed=2)


def check(trial: Trial, count: int, seed: int) -> None:
    """All faults happen, in chains that go deeper: each call finds what the failed ones before left."""
    codes, wrong, beyond = [], [], 0
    waiting = faults_over(trial.num_calls, count, seed)
    while waiting:
        chain = trial.after(sorted(waiting[:DEPTH], key=lambda fault: fault.at))
        codes += [ended.code for ended in chain.ends]
        wrong += chain.wrong
        # What did not happen behind others happens in a fresh folder; the last writes may depend on the clock.
        alone = not chain.ends
        beyond += alone
        waiting = chain.missed[alone:] + waiting[DEPTH:]
    assert wrong == []
    assert len(codes) == count - beyond
    assert beyond <= 1 + count // 20, codes
    assert codes.count(4) >= count // 3, codes


@pytest.mark.sam2
@pytest.mark.parametrize("number", NUMBERS[:2])  # each number by itself: test_path_errors
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


def test_a_kill_inside_the_write_of_a_checkpoint_leaves_nothing_after_the_next_start(nursery: Nursery, tmp_path: Path):
    """Aimed at every write of safetensors, which makes a temporary file with a name of its own."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    save = "torture.commands:save"
    assert nursery.run(save, ["first"], cwd=folder, fault=Fault(function="write")).code == 0
    count, undisturbed = nursery.shim.count, contents(folder)
    assert any("/.tmp" in call.path for call in nursery.shim.calls()), "safetensors wrote nothing that the shim saw"
    left = 0
    for number in range(18):
        action = (Action.KILL_BEFORE, Action.KILL_INSIDE, Action.KILL_AFTER)[number % 3]
        fault = Fault(at=1 + number % count, action=action, function="write")
        assert nursery.run(save, [f"kill {number}"], cwd=folder, fault=fault).code == -9
        left += contents(folder) != undisturbed
        assert {name: digest for name, digest in contents(folder).items() if ".partial" not in name} == undisturbed
        assert nursery.run(save, ["first"], cwd=folder).code == 0
        assert contents(folder) == undisturbed
    assert left, "no kill left a temporary file: it did not hit the write"


@pytest.mark.slow
@pytest.mark.sam2
@pytest.mark.parametrize("action", [Action.KILL_BEFORE, Action.KILL_INSIDE, Action.KILL_AFTER])
def test_a_training_that_is_killed_inside_the_write_of_a_checkpoint_leaves_what_an_undisturbed_one_leaves(
    trial, action
):
    """The next start claims the run, and sweeps what the writer left."""
    whole = trial("train")
    fresh(whole.template, whole.work)
    ended = run(whole.nursery, TRAIN, whole.work, Fault(at=1, action=action, function="write", file="/.tmp"))
    assert ended.code == -9
    (left,) = whole.work.glob("runs/toy/*/checkpoints/.partial/*/.tmp*")
    assert left.is_file()
    assert whole.differences(run(whole.nursery, TRAIN, whole.work)) == []
    assert not left.parent.parent.exists()


# --- file systems that are really full or closed ----------------------------------------------------------------------


def launched(command: str, *arguments: str, cwd: Path, within: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    call = [*within, sys.executable, str(ROOT / "launch" / f"{command}.py"), *arguments]
    return subprocess.run(call, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Small:
    """An empty file system of 64 kB in a mount namespace of its own: only processes that enter it see it."""

    folder: Path
    holder: int
    """The process that has the namespace."""

    @property
    def seen(self) -> Path:
        """The folder for processes outside."""
        return Path(f"/proc/{self.holder}/root") / self.folder.relative_to("/")

    def entering(self, cwd: Path) -> tuple[str, ...]:
        """What is put before a command."""
        start = 'cd "$0" && exec "$@"'
        return ("nsenter", f"--target={self.holder}", "--mount", "sh", "-c", start, str(cwd))

    def grow(self) -> None:
        call = (*self.entering(Path("/")), "mount", "-o", "remount,size=4m", str(self.folder))
        subprocess.run(call, check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    """It ends with its namespace, however the test or the process of the tests ends: its holder waits at a pipe."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("nsenter")):
        pytest.skip("mounting a small file system needs root, unshare and nsenter")
    script = 'mount -t tmpfs -o size=64k tmpfs "$0" && echo ready && read -r end'
    holder = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with holder:  # closes its pipes and waits
        assert holder.stdout is not None
        if holder.stdout.readline() != "ready\n":
            pytest.skip("this machine does not allow mounting")
        yield Small(folder, holder.pid)


PAIR = ("eval", "--reference", "masks/a.nii.gz", "--prediction", "masks/a.nii.gz")
CALLS = {"prepare": ("prepare", "dataset.yaml"), "eval": PAIR}


@pytest.mark.parametrize("command", [pytest.param("prepare", marks=pytest.mark.slow), "eval"])
def test_a_full_file_system_says_so_on_every_attempt_and_the_command_finishes_when_it_has_grown(
    scans, small, tmp_path, command
):
    work = fresh(scans, tmp_path / "work")
    (small.seen / "filler").write_bytes(bytes(40_000))
    call = (*CALLS[command], "--out", str(small.folder / "out"))
    for _ in range(2):
        done = launched(*call, cwd=work, within=small.entering(work))
        assert done.returncode == 4, done.stderr
        lines = [line for line in done.stderr.splitlines() if "full (no space left on device)" in line]
        assert len(lines) == 1
        assert lines[0].startswith(f"{small.folder}/out")
        assert "Traceback" not in done.stderr
    assert (small.seen / "filler").read_bytes() == bytes(40_000)
    small.grow()
    done = launched(*call, cwd=work, within=small.entering(work))
    assert done.returncode == 0, done.stderr
    assert launched(*CALLS[command], "--out", str(tmp_path / "out"), cwd=work).returncode == 0
    assert contents(small.seen / "out").keys() == contents(tmp_path / "out").keys()


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
