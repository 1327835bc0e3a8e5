"""Daemons of a devcluster: start, stop, and search by the environment that they were started with.

The environment is used because a pid file may be out of date.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from settings import NODES, Settings

NODE_DAEMONS = tuple(f"slurmd-{node}" for node in NODES)
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", *NODE_DAEMONS)
"""In the order in which they start."""
_START_S = 60.0
_STOP_S = 20.0


def running(settings: Settings) -> dict[str, int]:
    """Name -> process id of the daemons of this cluster that are alive."""
    found: dict[str, int] = {}
    for pid, arguments, variables in _processes():
        name = Path(arguments[0]).name
        if name == "slurmd" and "-N" in arguments:
            name = f"slurmd-{arguments[arguments.index('-N') + 1]}"
        if name in DAEMONS and _ours(settings, variables):
            # A daemon that has just forked exists twice: the older process ends after a moment.
            found[name] = max(pid, found.get(name, 0))
    return found


def left_over(settings: Settings) -> list[int]:
    """Process ids of jobs of this cluster that still run, and of their slurmstepd."""
    return [
        pid
        for pid, arguments, variables in _processes()
        if _ours(settings, variables)
        and pid != os.getpid()
        and ("SLURM_JOB_ID" in variables or Path(arguments[0]).name.startswith(("slurmstepd", "slurmscriptd")))
    ]


def _ours(settings: Settings, variables: dict[str, str]) -> bool:
    return variables.get("SLURM_CONF") == str(settings.slurm_conf)


def _processes() -> Iterator[tuple[int, list[str], dict[str, str]]]:
    """Id, command line and environment of each process; zombies, which have none, are left out."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            arguments = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            block = (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        pairs = (text.partition("=") for text in block.split("\0"))
        if arguments[0]:
            yield int(folder.name), arguments, {name: value for name, _, value in pairs}


def start(settings: Settings, name: str, command: Sequence[str]) -> None:
    """Start a daemon that goes to the background by itself, unless it runs."""
    if name not in running(settings):
        run(command, settings.environment())


def start_in_background(settings: Settings, name: str, command: Sequence[str]) -> None:
    """Start a daemon that does not go to the background by itself, unless it runs."""
    if name in running(settings):
        return
    with (settings.logs / f"{name}.out").open("ab") as log:
        subprocess.Popen(
            command,
            env=settings.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(settings: Settings, name: str) -> None:
    """End a daemon; if it does not end, kill it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid = running(settings).get(name)
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if holds(lambda: name not in running(settings), _STOP_S):
            return
    sys.exit(f"devcluster: {name} cannot be stopped")


def kill_left_over(settings: Settings) -> None:
    """Kill processes that remain after the daemons, e.g. the job of a slurmd that was killed."""
    for pid in left_over(settings):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not holds(lambda: not left_over(settings), _STOP_S):
        sys.exit(f"devcluster: processes {left_over(settings)} of jobs cannot be stopped")


def holds(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition becomes true within that time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def wait(settings: Settings, what: str, condition: Callable[[], bool]) -> None:
    """Wait for the condition; exit with the last lines of the logs if it is not met in time."""
    if not holds(condition, _START_S):
        tail = "\n".join(_last_lines(path) for path in sorted(settings.logs.glob("*")))
        sys.exit(f"{tail}\ndevcluster: no {what} after {_START_S:.0f} s; see the logs in {settings.logs}")


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-5:]
    return "\n".join(f"{log.name}: {line}" for line in lines)


def run(command: Sequence[str], env: dict[str, str] | None = None, output: IO[str] | None = None) -> None:
    """Run a command and exit with a message if it fails."""
    # Daemons keep an inherited pipe open for ever: their output goes to this terminal, not to a pipe.
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        sys.exit(f"devcluster: {shlex.join(command)} ended with {done.returncode}")


def ask(settings: Settings, command: Sequence[str]) -> str | None:
    """Standard output of a Slurm command; None when the command fails."""
    try:
        done = subprocess.run(
            command, env=settings.environment(), capture_output=True, text=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None
