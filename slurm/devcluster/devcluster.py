"""A private, real Slurm on one Debian or Ubuntu machine, for tests and trials. Needs root; leaves a system Slurm alone.

    python slurm/devcluster/devcluster.py up [--install]    # idempotent
    eval "$(python slurm/devcluster/devcluster.py env)"     # sbatch, squeue ... now talk to it
    python slurm/devcluster/devcluster.py status | down

Everything (munge key and socket, configuration, state, logs) lives in one folder; only SLURM_CONF points to it. Three
virtual nodes share the machine. The settings make a requeue take seconds instead of the usual two minutes. Several
clusters run side by side, each with a folder (SAM2FT_DEVCLUSTER) and ports (SAM2FT_DEVCLUSTER_PORT, the first of ten).
"""

import argparse
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun")
NODES = ("n1", "n2", "n3")
DEFAULT_PORT = 26817  # below the range that Linux gives to outgoing connections
_START_S = 30.0


def state_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("SAM2FT_DEVCLUSTER", str(Path(cache) / "sam2ft-devcluster")))


def first_port() -> int:
    """Of the controller; the nodes have the ports from the fifth on."""
    text = os.environ.get("SAM2FT_DEVCLUSTER_PORT", str(DEFAULT_PORT))
    if not (text.isdecimal() and 1024 <= int(text) <= 65525):
        sys.exit(f"devcluster: SAM2FT_DEVCLUSTER_PORT is {text!r}; allowed are 1024 to 65525")
    return int(text)


def configuration(folder: Path, host: str, cores: int, memory_mb: int) -> str:
    """slurm.conf. Each line that is not obvious has its reason in README.md."""
    port = first_port()
    first_node = port + 4
    return f"""\
ClusterName=sam2ft-dev
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdTimeout=10
KillWait=5
MinJobAge=300
MaxArraySize=101
ReturnToService=2
JobRequeue=1
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
NodeName={NODES[0]},{NODES[1]},{NODES[2]} NodeHostname={host} NodeAddr=127.0.0.1 \
Port={first_node}-{first_node + len(NODES) - 1} CPUs={cores} RealMemory={memory_mb} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
"""


def memory_mb() -> int:
    """Memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def missing_programs() -> list[str]:
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=search) is None]


def up(folder: Path, *, install: bool) -> None:
    """Bring the cluster up; what runs already is left alone."""
    if os.geteuid() != 0:
        sys.exit("devcluster: needs root, because Slurm's daemons do")
    if missing := missing_programs():
        if not install:
            sys.exit(f"devcluster: {', '.join(missing)} not found; run with --install, or install {' '.join(PACKAGES)}")
        _run(["apt-get", "update"])
        _run(["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES])
    for name in ("munge", "controller", "run", "log", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name).chmod(0o755)
    text = configuration(folder, socket.gethostname(), len(os.sched_getaffinity(0)), memory_mb())
    (folder / "slurm.conf").write_text(text, encoding="utf-8")
    _start_munge(folder)
    _start(folder, "slurmctld", ["slurmctld"])
    for node in NODES:
        _start(folder, f"slurmd-{node}", ["slurmd", "-N", node])
    _wait("three idle nodes", lambda: _ready(folder))


def _start_munge(folder: Path) -> None:
    if _pid(folder, "munged") is not None:
        return
    key = folder / "munge" / "key"
    if not key.is_file():
        key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    places = {
        "--key-file": key,
        "--socket": folder / "munge" / "socket",
        "--pid-file": folder / "run" / "munged.pid",
        "--log-file": folder / "log" / "munged.log",
        "--seed-file": folder / "munge" / "seed",
    }
    _run(["munged", "--force", *(f"{option}={path}" for option, path in places.items())], environment(folder))
    _wait("the munge socket", (folder / "munge" / "socket").exists)


def _start(folder: Path, name: str, command: Sequence[str]) -> None:
    if _pid(folder, name) is None:
        _run(command, environment(folder))


def _pid(folder: Path, name: str) -> int | None:
    """Process id of a daemon of ours that is alive."""
    try:
        pid = int((folder / "run" / f"{name}.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except (OSError, ValueError):
        return None
    return pid if name.partition("-")[0] in command else None


def _ready(folder: Path) -> bool:
    done = _query(folder, ["sinfo", "-h", "-N", "-o", "%T"])
    states = done.split()
    return len(states) == len(NODES) and all(state in ("idle", "mixed", "allocated") for state in states)


def _wait(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _START_S
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"devcluster: no {what} after {_START_S:.0f} s; see the logs in {state_folder() / 'log'}")
        time.sleep(0.2)


def environment(folder: Path) -> dict[str, str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}


def _run(command: Sequence[str], env: dict[str, str] | None = None) -> None:
    # Daemons keep an inherited pipe open for ever: their output goes to this terminal, never to a pipe of ours.
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        sys.exit(f"devcluster: {shlex.join(command)} ended with {done.returncode}")


def _query(folder: Path, command: Sequence[str]) -> str:
    done = subprocess.run(command, env=environment(folder), capture_output=True, text=True, timeout=30, check=False)
    return done.stdout


def down(folder: Path) -> None:
    """Cancel all jobs, end the daemons, remove the folder."""
    if not folder.is_dir():
        return
    if _pid(folder, "slurmctld") is not None:
        _query(folder, ["scancel", "--state=PENDING", "-u", str(os.getuid())])
        _query(folder, ["scancel", "-u", str(os.getuid())])
        _wait("empty queue", lambda: not _query(folder, ["squeue", "-h"]).strip())
    for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "munged"):
        pid = _pid(folder, name)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            _wait(f"end of {name}", lambda name=name: _pid(folder, name) is None)  # type: ignore[misc]
    shutil.rmtree(folder)


def status(folder: Path) -> None:
    names = ("munged", "slurmctld", *(f"slurmd-{node}" for node in NODES))
    for name in names:
        pid = _pid(folder, name)
        print(f"{name:12} {'not running' if pid is None else f'process {pid}'}")
    if _pid(folder, "slurmctld") is not None:
        print(_query(folder, ["sinfo"]), _query(folder, ["squeue"]), sep="\n", end="")


def main() -> None:
    parser = argparse.ArgumentParser(description="a private Slurm on this machine")
    parser.add_argument("action", choices=("up", "down", "status", "env"))
    parser.add_argument(
        "--install", action="store_true", help=f"install {' '.join(PACKAGES)} with apt-get where absent"
    )
    arguments = parser.parse_args()
    folder = state_folder()
    if arguments.action == "up":
        up(folder, install=arguments.install)
    elif arguments.action == "down":
        down(folder)
    elif arguments.action == "status":
        status(folder)
    else:
        print(f"export SLURM_CONF={shlex.quote(str(folder / 'slurm.conf'))}")


if __name__ == "__main__":
    main()
