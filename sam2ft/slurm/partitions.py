"""Limits of a Slurm cluster: job array sizes, and the limits, state and nodes of its partitions (scontrol, sinfo)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sam2ft.core.errors import UserError
from sam2ft.slurm.answers import run_program

DEFAULT_MAX_ARRAY_SIZE = 1001
"""Slurm's default of MaxArraySize, for a plan that is made where no Slurm answers."""
_NODE_FORMAT = "%R|%D|%c|%m|%G"


@dataclass(frozen=True)
class ArrayLimits:
    """Largest size of one job array."""

    max_array_size: int = DEFAULT_MAX_ARRAY_SIZE
    """MaxArraySize: largest index + 1. It limits the index, not the number of elements."""
    max_array_tasks: int | None = None
    """`max_array_tasks` of SchedulerParameters, where a site sets it. It limits the number of elements."""

    @property
    def elements(self) -> int:
        """Largest number of elements of an array with the indices 0, 1, 2, ..."""
        return min(self.max_array_size, self.max_array_tasks or self.max_array_size)


@dataclass(frozen=True)
class NodeKind:
    """Nodes of one partition with equal hardware."""

    count: int
    cpus: int
    memory_mb: int
    gpus: int


@dataclass(frozen=True)
class Partition:
    """One partition; None means no limit."""

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
    """Empty where sinfo does not list them."""
    accounts: tuple[str, ...] | None = None
    """Accounts that may use it; None: all."""
    qos: tuple[str, ...] | None = None
    """Qualities of service that it accepts; None: all."""


@dataclass(frozen=True)
class ClusterLimits:
    """Limits of one Slurm cluster."""

    cluster_name: str
    arrays: ArrayLimits
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    accounting: bool = False
    """Whether the cluster has an accounting database for sacct and sacctmgr."""

    def partition(self, name: str | None) -> Partition | None:
        """Return the partition of that name (None: the default one), or None when it does not exist."""
        if name is not None:
            return self.partitions.get(name)
        return next((partition for partition in self.partitions.values() if partition.is_default), None)


def read_limits() -> ClusterLimits:
    """Read the limits of the cluster that this machine belongs to.

    Raises:
        UserError: Slurm does not answer.
    """
    config = parse_config(_asked("scontrol", "show", "config"))
    nodes = parse_nodes(_asked("sinfo", "-h", "-e", "-o", _NODE_FORMAT))
    partitions = parse_partitions(_asked("scontrol", "-o", "show", "partition", "--all"), nodes)
    tasks = re.search(r"max_array_tasks=(\d+)", config["SchedulerParameters"])
    return ClusterLimits(
        cluster_name=config["ClusterName"],
        arrays=ArrayLimits(int(config["MaxArraySize"]), int(tasks[1]) if tasks else None),
        partitions={partition.name: partition for partition in partitions},
        accounting=not config["AccountingStorageType"].endswith(("/none", "(null)")),
    )


def _asked(*command: str) -> str:
    done = run_program(command, hint="; is this a machine with Slurm?")
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` does not answer: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def parse_config(text: str) -> dict[str, str]:
    """Parse the `Name = value` lines of `scontrol show config`."""
    found = (re.match(r"(\w+)\s*=\s*(.*?)\s*$", line) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def parse_partitions(text: str, nodes: Mapping[str, tuple[NodeKind, ...]]) -> list[Partition]:
    """Parse the lines of `scontrol -o show partition`, one partition each."""
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
    """Parse lines of `sinfo -h -e` in the format `_NODE_FORMAT`; returns partition -> its kinds of nodes."""
    kinds: dict[str, list[NodeKind]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, count, cpus, memory_mb, gres = line.split("|", 4)
        kinds.setdefault(name, []).append(NodeKind(int(count), int(cpus), int(memory_mb), gpus_of(gres)))
    return {name: tuple(found) for name, found in kinds.items()}


def gpus_of(gres: str) -> int:
    """Return the number of GPUs in a GRES text such as `gpu:a100:4(S:0-1),gpu:2,shard:8`."""
    plain = re.sub(r"\([^)]*\)", "", gres)
    counts: Iterable[re.Match[str] | None] = (
        re.fullmatch(r"gpu(?::[^:,]*?)??(?::(\d+))?", entry) for entry in plain.split(",")
    )
    return sum(int(match[1] or 1) for match in counts if match)


def minutes(text: str) -> float | None:
    """Return the minutes of a time as Slurm writes it (`1-12:00:00`, `01:00:00`, `30`); None for no limit."""
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
