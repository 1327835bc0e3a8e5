"""Rank, world size and rendezvous address from the environment variables of torchrun or srun (Slurm), and the GPUs that
the plan of a job has. No torch."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

PLANNED_GPUS = "SAM2FT_PLANNED_GPUS"
"""Variable inside a Slurm job: GPUs per node in the plan of its run."""
_SCONTROL_TIMEOUT_S = 30


@contextmanager
def planned_gpus(count: int | None) -> Iterator[None]:
    """Context in which a device is chosen after a plan with `count` GPUs per node; None: without a plan."""
    before = os.environ.pop(PLANNED_GPUS, None)
    if count is not None:
        os.environ[PLANNED_GPUS] = str(count)
    try:
        yield
    finally:
        os.environ.pop(PLANNED_GPUS, None)
        if before is not None:
            os.environ[PLANNED_GPUS] = before


@dataclass(frozen=True)
class LauncherEnvironment:
    """Rank of this process in its job, and what is known about the rendezvous and the nodes."""

    rank: int
    world_size: int
    local_rank: int
    identity: str
    """Identifies this attempt (and its step), because another attempt may use the same store or the same folder."""
    address: str = ""
    """Address of the node of rank 0; empty: rank 0 publishes it in the run's folder."""
    port: int = 0
    """Port of the store; 0: any free one, which is published too."""
    served: bool = False
    """Whether the launcher (torchrun's agent) runs the store instead of rank 0."""
    places: Callable[[], tuple[str, ...]] = tuple
    """The place of each rank for messages, such as `node n7`; empty when unknown. Asked only when one is missing."""

    @property
    def keeps_store(self) -> bool:
        """Whether this process runs the store, without which the other ranks can neither connect nor communicate."""
        return self.rank == 0 and not self.served

    def name_of(self, rank: int) -> str:
        """Rank with its node for messages, such as `2 (node n7)`."""
        places = self.places()
        return f"{rank} ({places[rank]})" if places else str(rank)


def read_launcher_environment(environment: Mapping[str, str] | None = None) -> LauncherEnvironment | None:
    """Settings from torchrun (RANK, WORLD_SIZE, ...) or srun (SLURM_PROCID, ...), or None for a single process.

    SLURM_PROCID is set in batch scripts too, but the other tasks exist only inside a job step (SLURM_STEP_ID).
    """
    variables = os.environ if environment is None else environment
    if "RANK" in variables and "WORLD_SIZE" in variables:
        return _from_torchrun(variables) if int(variables["WORLD_SIZE"]) > 1 else None
    if "SLURM_STEP_ID" in variables and int(variables["SLURM_NTASKS"]) > 1:
        return _from_slurm(variables)
    return None


def _from_torchrun(environment: Mapping[str, str]) -> LauncherEnvironment:
    return LauncherEnvironment(
        int(environment["RANK"]),
        int(environment["WORLD_SIZE"]),
        int(environment["LOCAL_RANK"]),
        "-".join(environment.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")),
        environment["MASTER_ADDR"],
        int(environment["MASTER_PORT"]),
        served=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def _from_slurm(environment: Mapping[str, str]) -> LauncherEnvironment:
    names = ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return LauncherEnvironment(
        int(environment["SLURM_PROCID"]),
        int(environment["SLURM_NTASKS"]),
        int(environment["SLURM_LOCALID"]),
        "-".join(environment.get(name, "0") for name in names),
        port=int(environment.get("MASTER_PORT") or 0),
        places=cache(partial(places_of_ranks, environment)),
    )


def own_address(environment: Mapping[str, str] = os.environ) -> str:
    """Address of this node of a Slurm step: MASTER_ADDR, or NodeAddr, because node names need not resolve.

    Without scontrol (in a container): the address where srun was called, which is the first node of the job.
    """
    if given := environment.get("MASTER_ADDR"):
        return given
    if not set(environment["SLURM_STEP_NODELIST"]) & set("[,"):
        return "127.0.0.1"  # all ranks are on this node
    found = re.search(r"\bNodeAddr=(\S+)", _scontrol("node", environment["SLURMD_NODENAME"]))
    return found[1] if found else environment.get("SLURM_LAUNCH_NODE_IPADDR") or environment["SLURMD_NODENAME"]


def places_of_ranks(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The node of each rank of a Slurm step, or all nodes when it is unknown: without scontrol (in a container), and
    when the step's task distribution is not `block`."""
    nodes, world_size = environment["SLURM_STEP_NODELIST"], int(environment["SLURM_NTASKS"])
    counts: list[int] = []
    for number, _, repeats in re.findall(r"(\d+)(\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "")):
        counts += [int(number)] * int(repeats or 1)  # `2(x3)`: three nodes with two tasks each
    names = _scontrol("hostnames", nodes).split()
    is_block = re.match(r"block\b", environment.get("SLURM_DISTRIBUTION", "block"))
    if not is_block or len(names) != len(counts) or sum(counts) != world_size:
        return (f"one of the nodes {nodes}",) * world_size
    return tuple(f"node {name}" for name, count in zip(names, counts, strict=True) for _ in range(count))


def _scontrol(*arguments: str) -> str:
    """Output of `scontrol show`; empty when it fails or does not exist."""
    command = ["scontrol", "show", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SCONTROL_TIMEOUT_S).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
