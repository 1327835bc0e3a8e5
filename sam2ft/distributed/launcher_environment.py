"""Where a launcher put this process among the others, from its environment. No torch."""

import itertools
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from sam2ft.core.files import sha256_text

# Below Linux's ephemeral range (32768 and up), so that no outgoing connection of the node holds the port by chance.
_FIRST_PORT, _LAST_PORT = 12000, 32767
NUM_PORTS = 8
_SCONTROL_TIMEOUT_S = 30
_BRACKETS = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True)
class LauncherEnvironment:
    """This process among those of the job, and where they meet."""

    rank: int
    world_size: int
    local_rank: int
    address: str
    """Of the node of rank 0."""
    ports: tuple[int, ...]
    """Rank 0 listens at the first that is free; the others look at all of them. A single one is the store's own."""
    identity: str
    """Of this attempt: another job may listen at one of the ports."""
    nodes: tuple[str, ...] = ()
    """Of each rank; empty where it is not known."""
    served: bool = False
    """Whether the launcher itself listens (torchrun's agent), and not rank 0."""

    @property
    def keeps_store(self) -> bool:
        """Whether the others can meet, and hear of each other, only as long as this process lives."""
        return self.rank == 0 and not self.served

    def name_of(self, rank: int) -> str:
        """`2 (node n7)`."""
        return f"{rank} (node {self.nodes[rank]})" if self.nodes else str(rank)


def read_launcher_environment(environment: Mapping[str, str] | None = None) -> LauncherEnvironment | None:
    """The place that torchrun (RANK, WORLD_SIZE, ...) or srun (SLURM_PROCID, ...) gave, or None for a process alone.

    SLURM_PROCID is set in batch scripts too; only inside a step (SLURM_STEP_ID) do the other tasks exist.
    """
    variables = os.environ if environment is None else environment
    if "RANK" in variables and "WORLD_SIZE" in variables:
        return _place_of_torchrun(variables) if int(variables["WORLD_SIZE"]) > 1 else None
    if "SLURM_STEP_ID" in variables and int(variables["SLURM_NTASKS"]) > 1:
        return _place_of_slurm(variables)
    return None


def _place_of_torchrun(environment: Mapping[str, str]) -> LauncherEnvironment:
    return LauncherEnvironment(
        int(environment["RANK"]),
        int(environment["WORLD_SIZE"]),
        int(environment["LOCAL_RANK"]),
        environment["MASTER_ADDR"],
        (int(environment["MASTER_PORT"]),),
        "|".join(environment.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")),
        served=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def _place_of_slurm(environment: Mapping[str, str]) -> LauncherEnvironment:
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
    """Ports that all tasks of one attempt of one Slurm step derive alike, and other jobs on the node rarely share."""
    identity, span = _identity(environment), _LAST_PORT - _FIRST_PORT + 1
    return tuple(_FIRST_PORT + int(sha256_text(f"{identity}|{number}")[:8], 16) % span for number in range(NUM_PORTS))


def _address(environment: Mapping[str, str]) -> str:
    """Of the first node of the step: NodeAddr, because node names need not resolve.

    Without scontrol (in a container): the address from which srun was called, which is the first node of the job.
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
    """The node of each rank of a Slurm step; nothing where Slurm was told to spread them otherwise than in blocks."""
    if environment.get("SLURM_DISTRIBUTION", "block").split(",")[0].split(":")[0] != "block":
        return ()
    counts: list[int] = []
    for text in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        # `2(x3)` is three nodes of two tasks
        if not (match := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", text)):
            return ()
        counts += [int(match[1])] * int(match[2] or 1)
    nodes = expanded_node_list(environment.get("SLURM_STEP_NODELIST", ""))
    if len(nodes) != len(counts) or sum(counts) != int(environment["SLURM_NTASKS"]):
        return ()
    return tuple(node for node, count in zip(nodes, counts, strict=True) for _ in range(count))


def expanded_node_list(nodes: str) -> tuple[str, ...]:
    """The names of a Slurm node list: `n[1-2,07],m3` is n1, n2, n07, m3."""
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
