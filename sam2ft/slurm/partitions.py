"""What a cluster allows: array sizes, and the limits, state and nodes of its partitions, asked once."""

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sam2ft.core.errors import UserError

DEFAULT_MAX_ARRAY_SIZE = 1001
"""Slurm's own, for a plan that is made where no Slurm answers."""
_TIMEOUT_S = 30
_NODE_FORMAT = "%R|%D|%c|%m|%G"


@dataclass(frozen=True)
class ArrayLimits:
    """How large one array may be."""

    max_array_size: int = DEFAULT_MAX_ARRAY_SIZE
    """Largest index + 1: it limits the index, not the number of elements."""
    max_array_tasks: int | None = None
    """`max_array_tasks` of SchedulerParameters, where a site sets it: limits the number of elements."""

    @property
    def elements(self) -> int:
        """Elements that an array with the indices 0, 1, 2 ... may have."""
        return min(self.max_array_size, self.max_array_tasks or self.max_array_size)


@dataclass(frozen=True)
class NodeKind:
    """Nodes of one partition that are alike."""

    count: int
    cpus: int
    memory_mb: int
    gpus: int


@dataclass(frozen=True)
class Partition:
    """One partition; None is no limit."""

    name: str
    state: str
    """UP, DOWN, DRAIN or INACTIVE."""
    is_default: bool
    max_time_min: float | None
    max_nodes: int | None
    max_cpus_per_node: int | None
    max_mem_per_node_mb: int | None
    num_nodes: int
    nodes: tuple[NodeKind, ...] = ()
    """Empty where sinfo does not say."""
    accounts: tuple[str, ...] | None = None
    """Accounts that may use it; None: all."""
    qos: tuple[str, ...] | None = None
    """Qualities of service that it takes; None: all."""


@dataclass(frozen=True)
class ClusterLimits:
    """What one Slurm allows."""

    cluster_name: str
    arrays: ArrayLimits
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    accounting: bool = False
    """Whether it has a database that sacct and sacctmgr can ask."""

    @property
    def max_array_size(self) -> int:
        return self.arrays.max_array_size

    @property
    def max_array_tasks(self) -> int | None:
        return self.arrays.max_array_tasks

    def partition(self, name: str | None) -> Partition | None:
        """The partition of that name, the default one for None, or None when there is no such."""
        if name is not None:
            return self.partitions.get(name)
        return next((partition for partition in self.partitions.values() if partition.is_default), None)


def read_limits() -> ClusterLimits:
    """Ask the Slurm that this machine talks to. Errors: UserError when it does not answer."""
    config = parse_config(_asked("scontrol", "show", "config"))
    nodes = parse_nodes(_asked("sinfo", "-h", "-e", "-o", _NODE_FORMAT))
    partitions = parse_partitions(_asked("scontrol", "-o", "show", "partition", "--all"), nodes)
    tasks = re.search(r"max_array_tasks=(\d+)", config["SchedulerParameters"])
    return ClusterLimits(
        cluster_name=config["ClusterName"],
        arrays=ArrayLimits(int(config["MaxArraySize"]), int(tasks[1]) if tasks else None),
        partitions={partition.name: partition for partition in partitions},
        accounting=not config["AccountingStorageType"].endswith("/none")
        and "(null)" not in config["AccountingStorageType"],
    )


def _asked(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"`{' '.join(command)}` does not answer ({error}); is this a machine with Slurm?") from None
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` does not answer: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def parse_config(text: str) -> dict[str, str]:
    """`Name = value` lines of `scontrol show config`."""
    found = (re.match(r"(\w+)\s*=\s*(.*?)\s*$", line) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def parse_partitions(text: str, nodes: Mapping[str, tuple[NodeKind, ...]]) -> list[Partition]:
    """Lines of `scontrol -o show partition`, one partition each."""
    partitions = []
    for line in filter(None, map(str.strip, text.splitlines())):
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        partitions.append(
            Partition(
                name=words["PartitionName"],
                state=words["State"],
                is_default=words["Default"] == "YES",
                max_time_min=minutes(words["MaxTime"]),
                max_nodes=_number(words["MaxNodes"]),
                max_cpus_per_node=_number(words["MaxCPUsPerNode"]),
                max_mem_per_node_mb=_number(words.get("MaxMemPerNode", "UNLIMITED")),
                num_nodes=int(words["TotalNodes"]),
                nodes=nodes.get(words["PartitionName"], ()),
                accounts=_names(words["AllowAccounts"]) if "AllowAccounts" in words else None,
                qos=_names(words["AllowQos"]) if "AllowQos" in words else None,
            )
        )
    return partitions


def parse_nodes(text: str) -> dict[str, tuple[NodeKind, ...]]:
    """Partition -> its kinds of nodes, from lines of `sinfo -h -e` in our format."""
    kinds: dict[str, list[NodeKind]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, count, cpus, memory_mb, gres = line.split("|", 4)
        kinds.setdefault(name, []).append(NodeKind(int(count), int(cpus), int(memory_mb), gpus_of(gres)))
    return {name: tuple(found) for name, found in kinds.items()}


def gpus_of(gres: str) -> int:
    """GPUs in a text such as `gpu:a100:4(S:0-1),gpu:2,shard:8`."""
    plain = re.sub(r"\([^)]*\)", "", gres)
    counts: Iterable[re.Match[str] | None] = (
        re.fullmatch(r"gpu(?::[^:,]*?)??(?::(\d+))?", entry) for entry in plain.split(",")
    )
    return sum(int(match[1] or 1) for match in counts if match)


def minutes(text: str) -> float | None:
    """Minutes of a time as Slurm writes it (`1-12:00:00`, `01:00:00`, `30`); None for no limit."""
    if text in ("UNLIMITED", "INFINITE", "NONE"):
        return None
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        hours, mins, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 1:
        hours, mins, seconds = 0, parts[0], 0
    else:
        hours, mins, seconds = ([0] * (3 - len(parts)) + parts)[:3]
    return int(days or 0) * 1440 + hours * 60 + mins + seconds / 60


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _names(text: str) -> tuple[str, ...] | None:
    return None if text == "ALL" else tuple(text.split(","))
