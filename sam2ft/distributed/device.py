"""Device of a rank: its GPU, or the CPU where no GPU was promised; all ranks of a job have the same kind of device."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

import torch
from torch._C._distributed_c10d import Store  # torch.distributed re-exports it, but not in its type stubs

from sam2ft.core.errors import ConfigError, DeviceError
from sam2ft.core.system.nvidia import CPU_TORCH, driver_text, driver_version, named_gpus
from sam2ft.distributed.launcher_environment import PLANNED_GPUS

# Variables of a launcher with this node's GPUs, or their number; the first one that is set counts.
_PROMISES = ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE")
_READ_TIMEOUT = timedelta(seconds=20)


def choose_device(
    name: str = "auto", local_rank: int = 0, environment: Mapping[str, str] | None = None
) -> torch.device:
    """The torch device of this rank: `auto` is its GPU, or the CPU where none was promised (`promised_gpus`).

    The CPU also where neither the plan of a job nor Slurm gives it a GPU: those that it sees are of other jobs.
    CUDA_VISIBLE_DEVICES does not change.

    Raises:
        ConfigError: for `cuda` when no GPU is visible.
        DeviceError: for `auto` when GPUs were promised, but torch sees none.
    """
    if name not in ("auto", "cuda"):
        return torch.device(name)
    variables = os.environ if environment is None else environment
    promise = promised_gpus(variables)
    if name == "auto" and not promise and variables.get(PLANNED_GPUS) == "0":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    if name == "cuda":
        raise ConfigError("device cuda: no GPU is visible to this process; allowed: auto, cpu")
    if promise:
        raise DeviceError(_missing(promise, variables))
    return torch.device("cpu")


def promised_gpus(environment: Mapping[str, str]) -> str:
    """The variable by which the plan or the launcher gives this process GPUs, as `NAME=value`; empty without one."""
    if (planned := environment.get(PLANNED_GPUS, "0")) != "0":
        return f"{PLANNED_GPUS}={planned}"
    for name in _PROMISES:
        if (value := environment.get(name)) is not None:
            given = value.strip() not in ("", "0") if name == "SLURM_GPUS_ON_NODE" else bool(named_gpus(value))
            return f"{name}={value}" if given else ""
    return ""


def refuse_unlike_devices(
    store: Store,
    rank: int,
    world_size: int,
    device: torch.device,
    name_of: Callable[[int], str] = str,
    missing: str = "",
) -> None:
    """Compare the devices of all ranks before the process group exists: one blind rank would take gloo against nccl.

    Args:
        missing: why this rank has no GPU although one was promised; empty when it has what was promised.

    Raises:
        DeviceError: on every rank, when one misses its GPU, some have a GPU and others have not, or two have the same.
    """
    store.set(f"device/{rank}", json.dumps([device.type, os.uname().nodename, _uuid(device), missing]))
    found = [tuple(json.loads(store.get(f"device/{other}"))) for other in range(world_size)]
    if not (message := _unlike(found, name_of)):
        return
    # The store may end with the first process that does: each waits until all have read the devices.
    store.set(f"device/read/{rank}", "")
    with suppress(RuntimeError):
        store.wait([f"device/read/{other}" for other in range(world_size)], _READ_TIMEOUT)
    raise DeviceError(message)


def _unlike(found: Sequence[tuple[str, str, str, str]], name_of: Callable[[int], str]) -> str:
    """What is wrong with the devices of the ranks, each as (type, host, UUID, why it is missing); empty for nothing."""
    without = [name_of(other) for other, (kind, *_) in enumerate(found) if kind != "cuda"]
    if reason := next((reason for *_, reason in found if reason), ""):
        return f"rank {', '.join(without)} of {len(found)}: {reason}"
    if 0 < len(without) < len(found):
        return (
            f"rank {', '.join(without)} of {len(found)} sees no GPU, the others do; look there at `nvidia-smi` and "
            "CUDA_VISIBLE_DEVICES, or exclude that node (slurm.exclude of the site)"
        )
    first: dict[tuple[str, str], int] = {}
    for other, (kind, host, uuid, _) in enumerate(found):
        same = first.setdefault((host, uuid), other)
        if kind == "cuda" and uuid and same != other:
            return (
                f"rank {name_of(same)} and rank {name_of(other)} have the same GPU of {host}; a process needs a GPU of "
                "its own: resources.tasks_per_node may not exceed resources.gpus_per_node"
            )
    return ""


def _uuid(device: torch.device) -> str:
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""


def _missing(promise: str, environment: Mapping[str, str]) -> str:
    """One line about GPUs that were promised and are not there: what was found here, and what to do."""
    name, _, value = promise.partition("=")
    planned = name == PLANNED_GPUS
    begins = f"resources.gpus_per_node: {value} planned" if planned else promise
    cuda = torch.version.cuda
    if cuda is None:
        facts = CPU_TORCH
    else:
        driver = driver_text(cuda, driver_version()) or f"torch has CUDA {cuda}"
        visible = environment.get("CUDA_VISIBLE_DEVICES", "not set") or "empty"
        facts = f"{driver}, CUDA_VISIBLE_DEVICES is {visible}; compare them with `nvidia-smi` there"
    leave = "exclude that node (slurm.exclude of the site), or plan with gpus_per_node: 0 for the CPU"
    without = leave if planned else "or set CUDA_VISIBLE_DEVICES to nothing for the CPU"
    return f"{begins}, but torch sees no GPU on {os.uname().nodename}: {facts}, {without}"


def now(device: torch.device) -> float:
    """Seconds of a clock, read after all work queued on the device has ended: launches return at once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
