"""Faults of a file system below one folder: shim.c compiled, told what to do, and asked what it saw."""

import errno
import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("shim.c")
ROOT = Path(__file__).parents[3]
# The fields of `Control` in shim.c.
_LAYOUT = struct.Struct("=8q1024s64s256s")


class Action(IntEnum):
    """What happens at a call; only calls that move bytes have an inside, others fail or are finished there."""

    FAIL = 0
    SHORT = 1
    """Half of the bytes are written; every later call fails."""
    KILL_BEFORE = 2
    KILL_INSIDE = 3
    """Half of the bytes are written, then the process is killed."""
    KILL_AFTER = 4


@dataclass(frozen=True)
class Fault:
    """What happens at call number `at` (from 1; 0: calls are only counted) of those that count."""

    at: int = 0
    number: int = errno.ENOSPC
    action: Action = Action.FAIL
    once: bool = False
    """The next call works again; otherwise every later one fails too."""
    function: str = ""
    """Part of the name of the libc function; empty: all count."""
    file: str = ""
    """Part of the path; empty: all files below the folder count."""
    reads: bool = False
    """The calls that read count, and none that change files; they can only fail."""


@dataclass(frozen=True)
class Call:
    """One call that changes a file."""

    function: str
    path: str


@dataclass(frozen=True)
class Ended:
    """End of a command; `code` is negative for the signal that killed it."""

    code: int
    out: str
    err: str


def built(folder: Path) -> Path:
    """The compiled library in `folder`; the test is skipped where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler on PATH (Debian: apt-get install gcc libc6-dev)")
    library = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


class Shim:
    """Control of the calls below `folder` of all processes that were started with `environment()`."""

    def __init__(self, library: Path, control: Path):
        self._library, self._control = library, control
        control.write_bytes(bytes(_LAYOUT.size))
        with control.open("r+b") as stream:
            self._shared = mmap.mmap(stream.fileno(), _LAYOUT.size)

    def environment(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Variables of a process that the shim watches from its start."""
        return {**base, "LD_PRELOAD": str(self._library), "SAM2FT_SHIM": str(self._control)}

    def arm(self, folder: Path, fault: Fault = Fault()) -> None:
        """Count the calls below `folder` from now on, with `fault`."""
        self.log.write_text("")
        numbers = (1, fault.at, fault.number, fault.action, fault.once, 0, 0, fault.reads)
        texts = (str(folder.resolve()), fault.function, fault.file)
        self._shared[:] = _LAYOUT.pack(*numbers, *(text.encode() for text in texts))

    def disarm(self) -> None:
        """Let every call through and count none; what was counted stays."""
        self._shared[:8] = bytes(8)

    @property
    def log(self) -> Path:
        """File with one line per call."""
        return self._control.with_name(self._control.name + ".log")

    @property
    def count(self) -> int:
        """Number of calls since `arm`."""
        return int(_LAYOUT.unpack(self._shared[:])[5])

    @property
    def hits(self) -> int:
        """Number of calls that were disturbed."""
        return int(_LAYOUT.unpack(self._shared[:])[6])

    def calls(self) -> list[Call]:
        """All calls since `arm`, in their order."""
        lines = (line.split("\t", 2) for line in self.log.read_text(errors="surrogateescape").splitlines())
        return [Call(function, path) for _, function, path in sorted(lines, key=lambda line: int(line[0]))]

    def run(
        self,
        command: Sequence[str | Path],
        watched: Path,
        fault: Fault = Fault(),
        *,
        cwd: Path | None = None,
    ) -> Ended:
        """Run a command in a process of its own with `fault` below the folder `watched`."""
        self.arm(watched, fault)
        environment = self.environment({**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
        done = subprocess.run(
            [str(part) for part in command], env=environment, cwd=cwd, capture_output=True, text=True, check=False
        )
        self.disarm()
        return Ended(done.returncode, done.stdout, done.stderr)


class Nursery:
    """A process that has imported a command's libraries once and forks a child for each call of a command.

    Importing torch takes seconds, a fork milliseconds: hundreds of faults cost minutes.
    """

    def __init__(self, shim: Shim, folder: Path, modules: Sequence[str]):
        self.shim, self._folder = shim, folder
        environment = shim.environment({**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
        command = [sys.executable, "-m", "torture.shim.nursery", *modules]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(self, function: str, arguments: Sequence[str], *, cwd: Path, fault: Fault | None = None) -> Ended:
        """Call `module:function` with a list of arguments as a command in `cwd`, and `fault` below `cwd`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        out, err = self._folder / "stdout", self._folder / "stderr"
        self.shim.arm(cwd, fault or Fault())
        print("\t".join([str(cwd), str(out), str(err), function, *arguments]), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        self.shim.disarm()
        return Ended(code, out.read_text(errors="replace"), err.read_text(errors="replace"))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
