"""A private, real Slurm on one Debian or Ubuntu machine, for tests and trials. Needs root.

    python slurm/devcluster/devcluster.py up [--install]    # idempotent
    eval "$(python slurm/devcluster/devcluster.py env)"     # sbatch, squeue ... now use it
    python slurm/devcluster/devcluster.py status | down

A Slurm of the system is not changed. Everything (munge key and socket, database of accounting, configuration, state,
logs) is in one folder; only SLURM_CONF points to it. Three virtual nodes share the machine. With these settings a
requeue takes seconds instead of the usual two minutes. Several clusters can run at the same time, each with a folder
(SAM2FT_DEVCLUSTER) and ports (SAM2FT_DEVCLUSTER_PORT, the first of ten) of its own. SAM2FT_DEVCLUSTER_MAX_ARRAY is its
MaxArraySize, SAM2FT_DEVCLUSTER_CPUS the number of cores that each node reports (default: all cores of the machine).
"""

import argparse
import fcntl
import os
import secrets
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from accounting import start_accounting
from daemons import DAEMONS, ask, holds, kill_left_over, left_over, running, start, stop, wait
from packages import PACKAGES, install, missing_programs
from settings import GPUS_PER_NODE, NODES, Settings

_LAST_JOBS_S = 12.0
SLURM_DAEMONS = tuple(name for name in DAEMONS if name.startswith(("slurmctld", "slurmd-")))


def up(settings: Settings, *, may_install: bool) -> None:
    """Start the cluster; daemons that already run with the same configuration are kept."""
    if os.geteuid() != 0:
        sys.exit("devcluster: needs root, because Slurm's daemons do")
    if missing := missing_programs():
        if not may_install:
            sys.exit(f"devcluster: {', '.join(missing)} not found; run with --install, or install {' '.join(PACKAGES)}")
        install()
    _check_ports(settings)
    _write_folder(settings)
    _start_munge(settings)
    start_accounting(settings)
    start(settings, "slurmctld", ("slurmctld",))
    for node in NODES:
        start(settings, f"slurmd-{node}", ("slurmd", "-N", node))
    wait(settings, "three ready nodes", lambda: _ready(settings))


def _write_folder(settings: Settings) -> None:
    """Write folders and configuration. Daemons with another configuration are stopped, jobs continue."""
    for name in ("munge", "controller", "run", "log", "gpu", *(f"spool-{node}" for node in NODES)):
        (settings.folder / name).mkdir(parents=True, exist_ok=True)
        (settings.folder / name).chmod(0o755)
    for number in range(GPUS_PER_NODE):
        link = settings.folder / "gpu" / f"gpu{number}"
        if not link.is_symlink():
            link.symlink_to("/dev/null")
    files = settings.files()
    if any(not path.is_file() or path.read_text(encoding="utf-8") != text for path, text in files.items()):
        for name in (*reversed(SLURM_DAEMONS), "slurmdbd"):
            stop(settings, name)
    for path, text in files.items():
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
    settings.slurm_conf.chmod(0o644)


def _check_ports(settings: Settings) -> None:
    alive = running(settings)
    for name, port in settings.ports.items():
        with socket.socket() as trial:
            if name not in alive and trial.connect_ex(("127.0.0.1", port)) == 0:
                sys.exit(f"devcluster: port {port} of {name} is in use; set SAM2FT_DEVCLUSTER_PORT to other ports")


def _start_munge(settings: Settings) -> None:
    key = settings.folder / "munge" / "key"
    if not key.is_file():
        key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    places = {
        "--key-file": key,
        "--socket": settings.munge_socket,
        "--pid-file": settings.folder / "run" / "munged.pid",
        "--log-file": settings.logs / "munged.log",
        "--seed-file": settings.folder / "munge" / "seed",
    }
    start(settings, "munged", ("munged", "--force", *(f"{option}={path}" for option, path in places.items())))
    wait(settings, "munge socket", settings.munge_socket.exists)


def _ready(settings: Settings) -> bool:
    """Whether all nodes accept jobs; a drained node is resumed."""
    states = dict(
        line.split() for line in (ask(settings, ("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T")) or "").splitlines()
    )
    for node, state in states.items():
        if "drain" in state:
            ask(settings, ("scontrol", "update", f"NodeName={node}", "State=RESUME"))
    return len(states) == len(NODES) and all(state in ("idle", "mixed", "allocated") for state in states.values())


def down(settings: Settings) -> None:
    """Cancel all jobs, stop the daemons and remaining processes of jobs, remove the folder."""
    if "slurmctld" in running(settings):
        ask(settings, ("scancel", "--state=PENDING", "-u", str(os.getuid())))
        ask(settings, ("scancel", "-u", str(os.getuid())))
        holds(lambda: ask(settings, ("squeue", "-h")) in ("", None), _LAST_JOBS_S)
    for name in reversed(DAEMONS):
        stop(settings, name)
        if name == "slurmctld" and left_over(settings):
            kill_left_over(settings)
    if settings.folder.is_dir():
        shutil.rmtree(settings.folder)


def status(settings: Settings) -> None:
    alive = running(settings)
    for name in DAEMONS:
        print(f"{name:12} {f'process {alive[name]}' if name in alive else 'not running'}")
    if "slurmctld" in alive:
        print(ask(settings, ("sinfo",)) or "", ask(settings, ("squeue",)) or "", sep="\n", end="")


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Allow one `up` or `down` at a time. The lock on the folder's parent needs no file and ends with its process."""
    settings.folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(settings.folder.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description="a private Slurm on this machine")
    parser.add_argument("action", choices=("up", "down", "status", "env"))
    parser.add_argument("--install", action="store_true", help=f"install {' '.join(PACKAGES)} with apt-get if missing")
    arguments = parser.parse_args()
    settings = Settings.from_environment(os.environ)
    if arguments.action == "up":
        with _alone(settings):
            up(settings, may_install=arguments.install)
    elif arguments.action == "down":
        with _alone(settings):
            down(settings)
    elif arguments.action == "status":
        status(settings)
    else:
        print(f"export SLURM_CONF={shlex.quote(str(settings.slurm_conf))}")


if __name__ == "__main__":
    main()
