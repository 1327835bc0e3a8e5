"""Ranks: which process this is, its device, and the few things that all processes do together."""

import os
import random
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import numpy as np
import torch
from torch import nn
from torch._C._distributed_c10d import Store, TCPStore  # torch.distributed re-exports them, its types do not
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from sam2ft.core.errors import ConfigError
from sam2ft.core.files import sha256_text

# Below Linux's ephemeral range (32768 and up), so that no outgoing connection of the node holds the port by chance.
_FIRST_PORT, _LAST_PORT = 12000, 32767


@dataclass(frozen=True)
class Ranks:
    """This process among all; a single process without a process group by default."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and talks to people."""
        return self.rank == 0

    def gather(self, values: Sequence[float] | torch.Tensor) -> list[list[float]]:
        """The same number of values from every rank, in rank order and as the same bits on every rank (float64).

        One collective; a tensor on the device is read once, by all that happens here.
        """
        if self.world_size == 1:
            return [values.tolist() if isinstance(values, torch.Tensor) else list(values)]
        mine = torch.as_tensor(values, dtype=torch.float64, device=self.device)
        everyone = [torch.empty_like(mine) for _ in range(self.world_size)]
        torch.distributed.all_gather(everyone, mine)
        gathered: list[list[float]] = torch.stack(everyone).tolist()
        return gathered

    def total(self, values: Sequence[float] | torch.Tensor) -> list[float]:
        """Sums over ranks, added in rank order."""
        return [sum(column) for column in zip(*self.gather(values), strict=True)]

    def maxima(self, values: Sequence[float]) -> list[float]:
        """The largest of the ranks' numbers, one by one."""
        return [max(column) for column in zip(*self.gather(values), strict=True)]

    def barrier(self) -> None:
        if self.world_size > 1:
            torch.distributed.barrier()

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose forward averages gradients over ranks; the model itself for one rank."""
        if self.world_size == 1:
            return model
        # SAM 2 has no running statistics: its buffers never change, so they need not be broadcast every step.
        return DistributedDataParallel(
            model, device_ids=[self.device] if self.device.type == "cuda" else None, broadcast_buffers=False
        )


ALONE = Ranks()


@dataclass(frozen=True)
class Place:
    """Where a launcher put this process."""

    rank: int
    world_size: int
    local_rank: int
    address: str | None = None
    port: int | None = None
    """Where the ranks meet; None under torchrun, which tells torch by itself."""


def place_from_environment(environment: Mapping[str, str]) -> Place | None:
    """The place that torchrun (RANK, WORLD_SIZE, ...) or srun (SLURM_PROCID, ...) gave, or None for a process alone.

    SLURM_PROCID is set in batch scripts too; only inside a step (SLURM_STEP_ID) do the other tasks exist.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        if int(environment["WORLD_SIZE"]) == 1:
            return None
        return Place(int(environment["RANK"]), int(environment["WORLD_SIZE"]), int(environment["LOCAL_RANK"]))
    if "SLURM_STEP_ID" in environment and int(environment["SLURM_NTASKS"]) > 1:
        given_port = environment.get("MASTER_PORT")
        return Place(
            int(environment["SLURM_PROCID"]),
            int(environment["SLURM_NTASKS"]),
            int(environment["SLURM_LOCALID"]),
            environment.get("MASTER_ADDR") or _first_node_address(environment["SLURM_STEP_NODELIST"]),
            int(given_port) if given_port else port_of(environment),
        )
    return None


def port_of(environment: Mapping[str, str]) -> int:
    """A port that all tasks of one attempt of one Slurm step derive alike, and other jobs on the node rarely share."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    identity = "|".join(environment.get(name, "0") for name in names)
    return _FIRST_PORT + int(sha256_text(identity)[:8], 16) % (_LAST_PORT - _FIRST_PORT + 1)


def _first_node_address(nodes: str) -> str:
    """Address of the first node of a Slurm node list; NodeAddr, because node names need not resolve."""
    listing = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    first = listing.stdout.split()[0]
    node = subprocess.run(["scontrol", "show", "node", first], capture_output=True, text=True, check=True)
    addresses = [word.removeprefix("NodeAddr=") for word in node.stdout.split() if word.startswith("NodeAddr=")]
    return addresses[0] if addresses else first


def choose_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """`auto` is this rank's GPU, or the CPU without one. CUDA_VISIBLE_DEVICES is left as the launcher set it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cuda":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise ConfigError("device cuda: no GPU is visible to this process; allowed: auto, cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


@contextmanager
def distributed(
    *,
    device: str = "auto",
    environment: Mapping[str, str] | None = None,
    init_timeout_s: float = 300,
    collective_timeout_s: float = 3600,
) -> Iterator[Ranks]:
    """This process's Ranks; a process group exists inside the block when the launcher started more than one process.

    Inside another such block it is that block's group: processes cannot meet twice where they met once (torchrun's
    store still holds the old addresses, and a Slurm task may find the store of the group that is just ending).
    init_timeout_s: how long to wait for the other ranks to appear; collective_timeout_s: for them to join a collective
    (rank 0 writes checkpoints and pictures meanwhile).
    """
    place = place_from_environment(os.environ if environment is None else environment)
    chosen = choose_device(device, place.local_rank if place else 0)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        # fp32 means it: torch would convolve in TF32 (10 bits of mantissa) but multiply matrices in float32.
        torch.backends.cudnn.allow_tf32 = False
    if place is None:
        yield Ranks(device=chosen)
        return
    if torch.distributed.is_initialized():
        yield Ranks(place.rank, place.world_size, chosen)
        return
    store = _meet(place, timedelta(seconds=init_timeout_s))
    torch.distributed.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        store=store,
        rank=place.rank,
        world_size=place.world_size,
        timeout=timedelta(seconds=collective_timeout_s),
    )
    try:
        yield Ranks(place.rank, place.world_size, chosen)
    finally:
        torch.distributed.destroy_process_group()


def _meet(place: Place, timeout: timedelta) -> Store:
    """The store at which all have met: torchrun's, or rank 0's for the tasks of Slurm.

    Errors: ConfigError when another program holds the port on this node; torch's DistError after `timeout`.
    """
    if place.address is None or place.port is None:
        store, _, _ = next(rendezvous("env://", timeout=timeout))
        return cast(Store, store)
    serves = place.rank == 0
    if serves and not _port_is_free(place.port):
        raise ConfigError(f"port {place.port} on {place.address} is in use; set MASTER_PORT to a free port below 32768")
    return TCPStore(place.address, place.port, place.world_size, is_master=serves, timeout=timeout)


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def seed_step(seed: int, step: int, rank: int) -> None:
    """Reseed every global generator from (seed, step, rank), so that a resumed run draws what the whole run drew.

    NumPy's and Python's too: MONAI and transforms of users may draw from them.
    """
    words = np.random.SeedSequence([seed, step, rank]).generate_state(4)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))
    random.seed(int(words[2]))
    np.random.seed(int(words[3]))
