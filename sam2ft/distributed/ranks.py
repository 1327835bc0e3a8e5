"""Ranks of a distributed job: process group, device of this process, collectives, and random seeds per step."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch._C._distributed_c10d import PrefixStore, Store  # torch.distributed re-exports it, but not in its type stubs
from torch.nn.parallel import DistributedDataParallel

from sam2ft.core.errors import DeviceError, StopRequestedError
from sam2ft.distributed.arithmetic import deterministic_algorithms, float32_products
from sam2ft.distributed.device import choose_device, refuse_unlike_devices
from sam2ft.distributed.failure_watch import FailureWatch
from sam2ft.distributed.launcher_environment import LauncherEnvironment, read_launcher_environment
from sam2ft.distributed.rendezvous import rendezvous

# All ranks are in the same step when they average gradients.
_GRADIENTS_WAIT = timedelta(hours=1)
# Evaluations of the ranks may end hours apart. A rank that is gone is found by the failure watch.
_HOSTS_WAIT = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """Rank, world size and device of this process; by default a single process without a process group."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    host_group: torch.distributed.ProcessGroup | None = field(default=None, compare=False)
    """Process group of the values on the host, where the default group is that of the GPUs."""

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and prints messages."""
        return self.rank == 0

    def gather(self, values: Sequence[float] | torch.Tensor) -> list[list[float]]:
        """Gather the same number of values from every rank, in rank order (float64), bitwise equal on every rank.

        Uses one collective of the hosts, so that only a tensor on the device waits for it: it is copied once.
        """
        if self.world_size == 1:
            return [values.tolist() if isinstance(values, torch.Tensor) else list(values)]
        on_host = values.cpu() if isinstance(values, torch.Tensor) else values
        mine = torch.as_tensor(on_host, dtype=torch.float64)
        everyone = [torch.empty_like(mine) for _ in range(self.world_size)]
        torch.distributed.all_gather(everyone, mine, group=self.host_group)
        gathered: list[list[float]] = torch.stack(everyone).tolist()
        return gathered

    def texts(self, mine: str) -> list[str]:
        """Gather a text from every rank, in rank order, through the hosts."""
        found = [mine] * self.world_size
        if self.world_size > 1:
            torch.distributed.all_gather_object(found, mine, group=self.host_group)
        return found

    def total(self, values: Sequence[float] | torch.Tensor) -> list[float]:
        """Sum of each value over the ranks, added in rank order."""
        return [sum(column) for column in zip(*self.gather(values), strict=True)]

    def maxima(self, values: Sequence[float]) -> list[float]:
        """Maximum of each value over the ranks."""
        return [max(column) for column in zip(*self.gather(values), strict=True)]

    def barrier(self) -> None:
        """Wait on the host until all ranks are here."""
        self.gather([0.0])

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model in DistributedDataParallel, which averages gradients over ranks; the model itself for one rank."""
        if self.world_size == 1:
            return model
        # SAM 2 has no running statistics: its buffers never change and need no broadcast in every step.
        # Gradients as views of the buckets that are averaged: one copy of them less.
        device_ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            model, device_ids=device_ids, forward_sync_buffers=False, gradient_as_bucket_view=True
        )


ALONE = Ranks()
# Ranks of the block that made the process group, for the blocks inside it.
_OUTER: list[Ranks] = []


@contextmanager
def process_group(
    folder: Path,
    *,
    device: str = "auto",
    environment: Mapping[str, str] | None = None,
    init_timeout_s: float = 300,
    stop_requested: Callable[[], bool] = lambda: False,
    on_failure: Callable[[str], None] = lambda message: None,
) -> Iterator[Ranks]:
    """Context that yields the Ranks of this process, with a process group when the launcher started several processes.

    A nested block uses the outer group: torchrun's store would still contain the addresses of the old one.

    Args:
        folder: on a file system that all nodes share; in a Slurm step the ranks find rank 0 by a file there.
        init_timeout_s: how long to wait for the other ranks to connect.
        stop_requested: called until all ranks have connected.
        on_failure: called with the reason before this process, outside of a collective, ends because another failed.

    Raises:
        PeerFailedError: in place of torch's error when another process failed first; others as in `rendezvous`.
        DeviceError: a promised GPU is missing, or the ranks have unlike devices or share one.
    """
    launcher = read_launcher_environment(environment)
    chosen, missing = _own_device(device, launcher, environment)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        # Of this block alone: an evaluation after a training in the same process computes as one in its own.
        float32_products("ieee")
        deterministic_algorithms(wanted=False)
    ranks = Ranks(launcher.rank, launcher.world_size, chosen) if launcher else Ranks(device=chosen)
    if launcher is None or torch.distributed.is_initialized():
        yield _OUTER[-1] if launcher and _OUTER else ranks
        return
    store = rendezvous(launcher, folder, init_timeout_s, stop_requested)
    refuse_unlike_devices(store, launcher.rank, launcher.world_size, chosen, launcher.name_of, missing)
    _OUTER.append(_in_a_group(ranks, PrefixStore("group", store)))
    with FailureWatch(store, launcher.rank, launcher.world_size, on_failure) as watch:
        try:
            yield _OUTER[-1]
        except StopRequestedError:  # all ranks agreed to stop
            _leave_together(watch, launcher)
            raise
        except BaseException as error:
            watch.tell(error)
            raise  # without destroying the group: that may wait for the others, which detect the end of this process
        _leave_together(watch, launcher)


def _own_device(
    name: str, launcher: LauncherEnvironment | None, environment: Mapping[str, str] | None
) -> tuple[torch.device, str]:
    """The device of this rank; where other ranks have to be told first, also why a promised GPU is missing.

    Ended by the launcher, because one of them failed alone, the others would count as stopped and be requeued.
    """
    try:
        return choose_device(name, launcher.local_rank if launcher else 0, environment), ""
    except DeviceError as error:
        if launcher is None or torch.distributed.is_initialized():
            raise
        return torch.device("cpu"), str(error)


def _in_a_group(ranks: Ranks, store: Store) -> Ranks:
    """Initialise the process groups: gradients of GPUs by nccl, everything else by gloo on the hosts.

    A collective of nccl occupies the GPU while it waits, and is aborted without a message after its time limit.
    """
    on_gpu = ranks.device.type == "cuda"
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=store,
        rank=ranks.rank,
        world_size=ranks.world_size,
        timeout=_GRADIENTS_WAIT if on_gpu else _HOSTS_WAIT,
        device_id=ranks.device if on_gpu else None,
    )
    if not on_gpu:
        return ranks
    hosts = torch.distributed.new_group(backend="gloo", timeout=_HOSTS_WAIT)
    assert isinstance(hosts, torch.distributed.ProcessGroup)  # this rank is in it
    return replace(ranks, host_group=hosts)


def _leave_together(watch: FailureWatch, launcher: LauncherEnvironment) -> None:
    """Destroy the process group on all ranks: of processes that kept it, one in 50 aborted at exit (pytorch
    issue 190489)."""
    watch.leave(keeps_store=launcher.keeps_store)
    _OUTER.clear()
    torch.distributed.destroy_process_group()


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed all global random generators from (seed, step, rank), so that a resumed run repeats an uninterrupted one.

    This includes NumPy's and Python's generators, which MONAI and users' transforms may use.
    """
    words = np.random.SeedSequence([seed, step, rank]).generate_state(4)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))
    random.seed(int(words[2]))
    np.random.seed(int(words[3]))
