"""Ranks: which process this is, its device, and the few things that all processes do together."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import torch
from torch import nn
from torch._C._distributed_c10d import PrefixStore  # torch.distributed re-exports it, its types do not
from torch.nn.parallel import DistributedDataParallel

from sam2ft.core.errors import ConfigError, StopRequestedError
from sam2ft.distributed.failure_watch import FailureWatch
from sam2ft.distributed.launcher_environment import LauncherEnvironment, read_launcher_environment
from sam2ft.distributed.rendezvous import rendezvous


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


def choose_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """`auto` is this rank's GPU, or the CPU without one. CUDA_VISIBLE_DEVICES is left as the launcher set it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cuda":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise ConfigError("device cuda: no GPU is visible to this process; allowed: auto, cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def _use(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # fp32 means it: torch would convolve in TF32 (10 bits of mantissa) but multiply matrices in float32.
        torch.backends.cudnn.allow_tf32 = False


def _do_nothing(words: str) -> None:
    """Nobody keeps how this process ended."""


@contextmanager
def distributed(
    *,
    device: str = "auto",
    environment: Mapping[str, str] | None = None,
    init_timeout_s: float = 300,
    collective_timeout_s: float = 3600,
    stop_requested: Callable[[], bool] = lambda: False,
    on_failure: Callable[[str], None] = _do_nothing,
) -> Iterator[Ranks]:
    """This process's Ranks; a process group exists inside the block when the launcher started more than one process.

    Inside another such block it is that block's group: processes cannot meet twice where they met once (torchrun's
    store still holds the old addresses, and a Slurm task may find the store of the group that is just ending).
    init_timeout_s: how long to wait for the other ranks to appear; collective_timeout_s: for them to join a collective
    (rank 0 writes checkpoints and pictures meanwhile). stop_requested is asked until all have met. last_word is called
    with the reason before a process that works outside of a collective is ended because another one failed.

    Errors: those of meeting.meet; PeerError instead of what torch says when another process failed first.
    """
    launcher = read_launcher_environment(environment)
    chosen = choose_device(device, launcher.local_rank if launcher else 0)
    _use(chosen)
    if launcher is None:
        yield Ranks(device=chosen)
        return
    if torch.distributed.is_initialized():
        yield Ranks(launcher.rank, launcher.world_size, chosen)
        return
    store = rendezvous(launcher, init_timeout_s, stop_requested)
    torch.distributed.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        store=PrefixStore("group", store),
        rank=launcher.rank,
        world_size=launcher.world_size,
        timeout=timedelta(seconds=collective_timeout_s),
    )
    with FailureWatch(store, launcher.rank, launcher.world_size, on_failure) as watch:
        try:
            yield Ranks(launcher.rank, launcher.world_size, chosen)
        except StopRequestedError:
            # All ranks agreed on it.
            _leave_together(watch, launcher)
            raise
        except BaseException as error:
            watch.tell(error)
            # The group is not taken down: that may wait for the others, and ending is what tells them.
            raise
        _leave_together(watch, launcher)


def _leave_together(watch: FailureWatch, launcher: LauncherEnvironment) -> None:
    """What all ranks come to together ends with their group: of processes that kept it, one in 50 aborted at its end
    (pytorch issue 190489)."""
    watch.leave(keeps_store=launcher.keeps_store)
    torch.distributed.destroy_process_group()


def seed_step(seed: int, step: int, rank: int) -> None:
    """Reseed every global generator from (seed, step, rank), so that a resumed run draws what the whole run drew.

    NumPy's and Python's too: MONAI and transforms of users may draw from them.
    """
    words = np.random.SeedSequence([seed, step, rank]).generate_state(4)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))
    random.seed(int(words[2]))
    np.random.seed(int(words[3]))
