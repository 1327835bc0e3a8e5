"""Settings of a devcluster: folder, ports and sizes, and the text of slurm.conf, slurmdbd.conf and gres.conf."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CLUSTER = "sam2ft-dev"
NODES = ("n1", "n2", "n3")
GPUS_PER_NODE = 2
DEFAULT_PORT = 26817  # below the range that Linux uses for outgoing connections
DEFAULT_MAX_ARRAY = 101
GRACE_S = 20
_LONGEST_SOCKET = 107  # characters of a path that a Unix socket may have
_LAST_PORT = 65535 - 10


@dataclass(frozen=True)
class Settings:
    """Settings of one cluster. All its files are in `folder`; `port` is the first of ten that it may listen on."""

    folder: Path
    port: int
    max_array: int
    cpus: int
    """Cores that each node reports; the nodes share the cores of the machine."""

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Self:
        """Settings from SAM2FT_DEVCLUSTER (the folder), SAM2FT_DEVCLUSTER_PORT, _MAX_ARRAY and _CPUS, or defaults."""
        cache = variables.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        folder = Path(variables.get("SAM2FT_DEVCLUSTER") or str(Path(cache) / "sam2ft-devcluster")).absolute()
        if len(str(folder / "mariadb" / "socket")) > _LONGEST_SOCKET:
            sys.exit(f"devcluster: {folder}: path too long for sockets; set SAM2FT_DEVCLUSTER to a shorter path")
        port = _number(variables, "SAM2FT_DEVCLUSTER_PORT", DEFAULT_PORT, (1024, _LAST_PORT))
        max_array = _number(variables, "SAM2FT_DEVCLUSTER_MAX_ARRAY", DEFAULT_MAX_ARRAY, (2, 4000001))
        cpus = _number(variables, "SAM2FT_DEVCLUSTER_CPUS", len(os.sched_getaffinity(0)), (1, 1024))
        return cls(folder, port, max_array, cpus)

    @property
    def ports(self) -> dict[str, int]:
        """Daemon -> port that it listens on."""
        nodes = {f"slurmd-{node}": self.port + 4 + number for number, node in enumerate(NODES)}
        return {"slurmctld": self.port, "slurmdbd": self.port + 1} | nodes

    @property
    def slurm_conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def munge_socket(self) -> Path:
        return self.folder / "munge" / "socket"

    @property
    def database(self) -> Path:
        """Folder of MariaDB's data."""
        return self.folder / "mariadb" / "data"

    @property
    def database_socket(self) -> Path:
        return self.folder / "mariadb" / "socket"

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    def environment(self) -> dict[str, str]:
        """Environment of daemons and commands: this cluster's configuration and sockets, folders of root's programs.

        Variables of a job of another Slurm are left out.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        path = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
        return {**kept, "PATH": path, "SLURM_CONF": str(self.slurm_conf), "MYSQL_UNIX_PORT": str(self.database_socket)}

    def files(self) -> dict[Path, str]:
        """Configuration file -> its text. slurmdbd refuses a file that others may read."""
        files = {
            self.slurm_conf: _slurm_conf(self),
            self.folder / "slurmdbd.conf": _slurmdbd_conf(self),
            self.folder / "gres.conf": _gres_conf(self),
        }
        if slurm_version() >= (23, 2):
            # Newer versions have this option. Without it they request a cgroup from systemd with any ProctrackType.
            files[self.folder / "cgroup.conf"] = "CgroupPlugin=disabled\n"
        return files


def _number(variables: Mapping[str, str], name: str, default: int, allowed: tuple[int, int]) -> int:
    text = variables.get(name) or str(default)
    if not (text.isdecimal() and allowed[0] <= int(text) <= allowed[1]):
        sys.exit(f"devcluster: {name} is {text!r}; allowed are {allowed[0]} to {allowed[1]}")
    return int(text)


def slurm_version() -> tuple[int, int]:
    """Version (year, month) of the installed Slurm."""
    program = shutil.which("slurmctld", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or "slurmctld"
    text = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=30, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def memory_mb() -> int:
    """Memory of the machine in MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def _slurm_conf(settings: Settings) -> str:
    """Text of slurm.conf. slurm/README.md gives the reason for each line that is not obvious."""
    folder, ports, host = settings.folder, settings.ports, socket.gethostname()
    node_ports = f"{ports[f'slurmd-{NODES[0]}']}-{ports[f'slurmd-{NODES[-1]}']}"
    return f"""\
ClusterName={CLUSTER}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports["slurmctld"]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={settings.munge_socket},cred_expire=5
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
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=2
SlurmdTimeout=10
KillWait=5
UnkillableStepTimeout=120
MinJobAge=300
MaxArraySize={settings.max_array}
ReturnToService=2
JobRequeue=1
MpiDefault=none
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports["slurmdbd"]}
AccountingStoragePass={settings.munge_socket}
AccountingStorageTRES=gres/gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
NodeName={",".join(NODES)} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_ports} \
CPUs={settings.cpus} RealMemory={memory_mb()} Gres=gpu:{GPUS_PER_NODE} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime={GRACE_S} State=UP
PartitionName=high Nodes=ALL MaxTime=60 PriorityTier=10 PreemptMode=OFF State=UP
"""


def _slurmdbd_conf(settings: Settings) -> str:
    """Text of slurmdbd.conf. The database has no TCP port: slurmdbd finds its socket by MYSQL_UNIX_PORT."""
    return f"""\
AuthType=auth/munge
AuthInfo=socket={settings.munge_socket}
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={settings.ports["slurmdbd"]}
SlurmUser=root
PidFile={settings.folder}/run/slurmdbd.pid
LogFile={settings.logs}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""


def _gres_conf(settings: Settings) -> str:
    """Text of gres.conf. A GPU has to be a device; gpu0 and gpu1 in the folder are links to /dev/null."""
    return f"NodeName={','.join(NODES)} Name=gpu File={settings.folder}/gpu/gpu[0-{GPUS_PER_NODE - 1}]\n"
