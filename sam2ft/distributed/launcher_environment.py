"""Rank, world size and rendezvous address from the environment variables of torchrun or srun (Slurm). No torch."""

import itertools
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from sam2ft.core.files import sha256_text

# Below Linux's ephemeral range (32768 and up), so that no outgoing connection of the node uses the port by chance.
_FIRST_PORT, _LAST_PORT = 12000, 32767
NUM_PORTS = 8
_SCONTROL_TIMEOUT_S = 30
_BRACKETS = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True)
class LauncherEnvironment:
    """Rank of this process in its job, and the address and ports of the rendezvous."""

    rank: int
    world_size: int
    local_rank: int
    address: str
    """Address of the node of rank 0."""
    ports: tuple[int, ...]
    """Rank 0 listens on the first free port; the others try all of them. A single port is the port of the store."""
    identity: str
    """Identifies this attempt, because another job may listen on one of the ports."""
    nodes: tuple[str, ...] = ()
    """Node name of each rank; empty when unknown."""
    served: bool = False
    """Whether the launcher (torchrun's agent) runs the store instead of rank 0."""

    @property
    def keeps_store(self) -> bool:
        """Whether this process runs the store, without which the other ranks can neither connect nor communicate."""
        return self.rank == 0 and not self.served

    def name_of(self, rank: int) -> str:
        """Rank with its node for messages, such as `2 (node n7)`."""
        return f"{rank} (node {self.nodes[rank]})" if self.nodes else str(rank)


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
        environment["MASTER_ADDR"],
        (int(environment["MASTER_PORT"]),),
        "|".join(environment.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")),
        served=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def _from_slurm(environment: Mapping[str, str]) -> LauncherEnvironment:
    given = environment.get("MASTER_PORT")
    return LauncherEnvironment(
        int(environment["SLURM_PROCID"]),
        int(environment["SLURM_NTASKS"]),
        int(environment["SLURM_LOCALID"]),
        environment.get("MASTER_ADDR") or _address(environment),
        (int(given),) if given else ports_of(environment),
        _identity(environment),
        nodes_of_ranks(environment),
    )


def _identity(environment: Mapping[str, str]) -> str:
    names = ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return "|".join(environment.get(name, "0") for name in names)


def ports_of(environment: Mapping[str, str]) -> tuple[int, ...]:
    """Candidate ports derived from the Slurm step: equal for all its tasks, rarely equal for other jobs on the node."""
    identity, span = _identity(environment), _LAST_PORT - _FIRST_PORT + 1
    return tuple(_FIRST_PORT + int(sha256_text(f"{identity}|{number}")[:8], 16) % span for number in range(NUM_PORTS))


def _address(environment: Mapping[str, str]) -> str:
    """NodeAddr of the first node of the step, because node names need not resolve.

    Without scontrol (in a container): the address where srun was called, which is the first node of the job.
    """
    nodes = expanded_node_list(environment["SLURM_STEP_NODELIST"])
    if len(nodes) == 1:
        return "127.0.0.1"
    command = ["scontrol", "show", "node", nodes[0]]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SCONTROL_TIMEOUT_S).stdout
    except (OSError, subprocess.SubprocessError):
        shown = ""
    addresses = [word.removeprefix("NodeAddr=") for word in shown.split() if word.startswith("NodeAddr=")]
    return (*addresses, environment.get("SLURM_LAUNCH_NODE_IPADDR") or nodes[0])[0]


def nodes_of_ranks(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The node of each rank of a Slurm step; empty when the step's task distribution is not `block`."""
    if environment.get("SLURM_DISTRIBUTION", "block").split(",")[0].split(":")[0] != "block":
        return ()
    counts: list[int] = []
    for text in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        # `2(x3)` means three nodes with two tasks each
        if not (match := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", text)):
            return ()
        counts += [int(match[1])] * int(match[2] or 1)
    nodes = expanded_node_list(environment.get("SLURM_STEP_NODELIST", ""))
    if len(nodes) != len(counts) or sum(counts) != int(environment["SLURM_NTASKS"]):
        return ()
    return tuple(node for node, count in zip(nodes, counts, strict=True) for _ in range(count))


def expanded_node_list(nodes: str) -> tuple[str, ...]:
    """The node names in a Slurm node list: `n[1-2,07],m3` is n1, n2, n07, m3."""
    names: list[str] = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", nodes):
        pieces = _BRACKETS.split(part)
        choices = [_numbers(piece) if number % 2 else [piece] for number, piece in enumerate(pieces)]
        names += ["".join(chosen) for chosen in itertools.product(*choices)]
    return tuple(names)


def _numbers(text: str) -> list[str]:
    found: list[str] = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        found += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return found
