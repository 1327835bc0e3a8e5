"""Ranks of a distributed job: process group, device of this process, collectives, and random seeds per step."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch._C._distributed_c10d import PrefixStore  # torch.distributed re-exports it, but not in its type stubs
from torch.nn.parallel import DistributedDataParallel

from sam2ft.core.errors import ConfigError, StopRequestedError
from sam2ft.distributed.failure_watch import FailureWatch
from sam2ft.distributed.launcher_environment import LauncherEnvironment, read_launcher_environment
from sam2ft.distributed.rendezvous import rendezvous


@dataclass(frozen=True)
class Ranks:
    """Rank, world size and device of this process; by default a single process without a process group."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and prints messages."""
        return self.rank == 0

    def gather(self, values: Sequence[float] | torch.Tensor) -> list[list[float]]:
        """Gather the same number of values from every rank, in rank order (float64), bitwise equal on every rank.

        Uses one collective; a tensor on the device is copied to the host once.
        """
        if self.world_size == 1:
            return [values.tolist() if isinstance(values, torch.Tensor) else list(values)]
        mine = torch.as_tensor(values, dtype=torch.float64, device=self.device)
        everyone = [torch.empty_like(mine) for _ in range(self.world_size)]
        torch.distributed.all_gather(everyone, mine)
        gathered: list[list[float]] = torch.stack(everyone).tolist()
        return gathered

    def total(self, values: Sequence[float] | torch.Tensor) -> list[float]:
        """Sum of each value over the ranks, added in rank order."""
        return [sum(column) for column in zip(*self.gather(values), strict=True)]

    def maxima(self, values: Sequence[float]) -> list[float]:
        """Maximum of each value over the ranks."""
        return [max(column) for column in zip(*self.gather(values), strict=True)]

    def barrier(self) -> None:
        if self.world_size > 1:
            torch.distributed.barrier()

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model in DistributedDataParallel, which averages gradients over ranks; the model itself for one rank."""
        if self.world_size == 1:
            return model
        # SAM 2 has no running statistics: its buffers never change and need no broadcast in every step.
        return DistributedDataParallel(
            model, device_ids=[self.device] if self.device.type == "cuda" else None, broadcast_buffers=False
        )


ALONE = Ranks()


def choose_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """The torch device of this rank: `auto` is its GPU, or the CPU without one. CUDA_VISIBLE_DEVICES does not change.

    Raises:
        ConfigError: for `cuda` when no GPU is visible.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cuda":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise ConfigError("device cuda: no GPU is visible to this process; allowed: auto, cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def _set_up(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # fp32 means float32: by default torch convolves in TF32 (10 bits of mantissa), unlike matrix products.
        torch.backends.cudnn.allow_tf32 = False


@contextmanager
def process_group(
    folder: Path,
    *,
    device: str = "auto",
    environment: Mapping[str, str] | None = None,
    init_timeout_s: float = 300,
    collective_timeout_s: float = 3600,
    stop_requested: Callable[[], bool] = lambda: False,
    on_failure: Callable[[str], None] = lambda message: None,
) -> Iterator[Ranks]:
    """Context that yields the Ranks of this process, with a process group when the launcher started several processes.

    A nested block uses the outer group: torchrun's store would still contain the addresses of the old one.

    Args:
        folder: on a file system that all nodes share; in a Slurm step the ranks find rank 0 by a file there.
        init_timeout_s, collective_timeout_s: how long to wait for the other ranks to connect, and for them to join a
            collective (rank 0 writes checkpoints and pictures meanwhile).
        stop_requested: called until all ranks have connected.
        on_failure: called with the reason before this process, outside of a collective, ends because another failed.

    Raises:
        PeerFailedError: in place of torch's error when another process failed first; others as in `rendezvous`.
    """
    launcher = read_launcher_environment(environment)
    chosen = choose_device(device, launcher.local_rank if launcher else 0)
    _set_up(chosen)
    ranks = Ranks(launcher.rank, launcher.world_size, chosen) if launcher else Ranks(device=chosen)
    if launcher is None or torch.distributed.is_initialized():
        yield ranks
        return
    store = rendezvous(launcher, folder, init_timeout_s, stop_requested)
    torch.distributed.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        store=PrefixStore("group", store),
        rank=launcher.rank,
        world_size=launcher.world_size,
        timeout=timedelta(seconds=collective_timeout_s),
    )
    with FailureWatch(store, launcher.rank, launcher.world_size, on_failure) as watch:
        try:
            yield ranks
        except StopRequestedError:  # all ranks agreed to stop
            _leave_together(watch, launcher)
            raise
        except BaseException as error:
            watch.tell(error)
            raise  # without destroying the group: that may wait for the others, which detect the end of this process
        _leave_together(watch, launcher)


def _leave_together(watch: FailureWatch, launcher: LauncherEnvironment) -> None:
    """Destroy the process group on all ranks: of processes that kept it, one in 50 aborted at exit (pytorch
    issue 190489)."""
    watch.leave(keeps_store=launcher.keeps_store)
    torch.distributed.destroy_process_group()


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed all global random generators from (seed, step, rank), so that a resumed run repeats an uninterrupted one.

    This includes NumPy's and Python's generators, which MONAI and users' transforms may use.
    """
    words = np.random.SeedSequence([seed, step, rank]).generate_state(4)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))
    random.seed(int(words[2]))
    np.random.seed(int(words[3]))
