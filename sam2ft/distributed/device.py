"""Device of a rank: its GPU, or the CPU where no GPU was promised; all ranks of a job have the same kind of device."""

import json
import os
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch._C._distributed_c10d import Store  # torch.distributed re-exports it, but not in its type stubs

from sam2ft.core.errors import ConfigError, DeviceError

# Slurm's variables with the indices of this node's GPUs, or their number, and the values that mean none.
_PROMISES = {
    "CUDA_VISIBLE_DEVICES": ("", "-1", "NoDevFiles"),
    "SLURM_STEP_GPUS": ("",),
    "SLURM_JOB_GPUS": ("",),
    "SLURM_GPUS_ON_NODE": ("", "0"),
}
_LOOK = (
    "compare `nvidia-smi` on that node (is there a driver, and is it new enough?) with the CUDA version of torch "
    "({cuda}), and see whether CUDA_VISIBLE_DEVICES (found {visible}) names a GPU of this process"
)


_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def choose_device(
    name: str = "auto", local_rank: int = 0, environment: Mapping[str, str] | None = None
) -> torch.device:
    """The torch device of this rank: `auto` is its GPU, or the CPU where none was promised (`promised_gpus`).

    CUDA_VISIBLE_DEVICES does not change.

    Raises:
        ConfigError: for `cuda` when no GPU is visible.
        DeviceError: for `auto` when GPUs were promised, but torch sees none.
    """
    if name not in ("auto", "cuda"):
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    if name == "cuda":
        raise ConfigError("device cuda: no GPU is visible to this process; allowed: auto, cpu")
    variables = os.environ if environment is None else environment
    if promise := promised_gpus(variables):
        raise DeviceError(f"{promise}, but torch sees no GPU; {_where_to_look(variables)}")
    return torch.device("cpu")


def promised_gpus(environment: Mapping[str, str]) -> str:
    """The environment variable by which the launcher gives this process GPUs, as `NAME=value`; empty without one."""
    for name, nothing in _PROMISES.items():
        if (value := environment.get(name)) is not None:
            return "" if value.strip() in nothing else f"{name}={value}"
    return ""


def refuse_missing_gpus(planned: int, environment: Mapping[str, str] | None = None) -> None:
    """Refuse to train on the CPU what was planned with `planned` GPUs per node.

    Raises:
        DeviceError: torch sees no GPU.
    """
    if planned and not torch.cuda.is_available():
        variables = os.environ if environment is None else environment
        raise DeviceError(
            f"resources.gpus_per_node: {planned} planned, but torch sees no GPU; {_where_to_look(variables)}"
        )


def refuse_unlike_devices(
    store: Store, rank: int, world_size: int, device: torch.device, name_of: Callable[[int], str] = str
) -> None:
    """Compare the devices of all ranks before the process group exists: one blind rank would take gloo against nccl.

    Raises:
        DeviceError: on every rank, when some have a GPU and others have not, or two ranks have the same GPU.
    """
    store.set(f"device/{rank}", json.dumps([device.type, os.uname().nodename, _uuid(device)]))
    found = [tuple(json.loads(store.get(f"device/{other}"))) for other in range(world_size)]
    without = [name_of(other) for other, (kind, _, _) in enumerate(found) if kind != "cuda"]
    if 0 < len(without) < world_size:
        raise DeviceError(
            f"rank {', '.join(without)} of {world_size} sees no GPU, the others do; look there at `nvidia-smi` and "
            "CUDA_VISIBLE_DEVICES, or exclude that node (slurm.exclude of the site)"
        )
    first: dict[tuple[str, str], int] = {}
    for other, (kind, host, uuid) in enumerate(found):
        same = first.setdefault((host, uuid), other)
        if kind == "cuda" and uuid and same != other:
            raise DeviceError(
                f"rank {name_of(same)} and rank {name_of(other)} have the same GPU of {host}; a process needs a GPU of "
                "its own: resources.tasks_per_node may not exceed resources.gpus_per_node"
            )


def _uuid(device: torch.device) -> str:
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""


def _where_to_look(environment: Mapping[str, str]) -> str:
    visible = environment.get("CUDA_VISIBLE_DEVICES", "not set")
    return _LOOK.format(cuda=torch.version.cuda or "none: this torch is for CPUs", visible=visible or "empty")


def float32_products(kind: Literal["ieee", "tf32"]) -> None:
    """Compute float32 products of this process on a GPU in IEEE float32 or in TF32 (10 bits of mantissa).

    Both are said, because torch convolves in TF32 by default, and NGC images set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE.
    """
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    torch.backends.cudnn.allow_tf32 = kind == "tf32"


def deterministic_algorithms(*, wanted: bool) -> None:
    """Choose algorithms whose results are the same in every execution on a GPU; call it before the first product there.

    Without this, gradients of attention (flash and memory-efficient kernels), of cuDNN's convolutions and of
    interpolation are added in an arbitrary order. An operation without such an algorithm warns once and goes on
    (pytorch.org, notes on reproducibility).
    """
    if wanted:
        # With any other workspace cuBLAS may choose another algorithm in every call. It reads this when it starts.
        if os.environ.get(_WORKSPACE) not in (":4096:8", ":16:8"):
            os.environ[_WORKSPACE] = ":4096:8"
        _warn_once()
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = False


def _warn_once() -> None:
    """Show each of torch's warnings of an operation once: parts of a step reset Python's own record of what was shown.

    Hence not by a filter of `warnings`, which rests on that record.
    """
    if not isinstance(warnings.showwarning, _ShowOnce):
        warnings.showwarning = _ShowOnce(warnings.showwarning)


class _ShowOnce:
    """What shows warnings (`warnings.showwarning`), except those of deterministic algorithms that were shown before."""

    def __init__(self, stock: Callable[..., None]):
        self._stock, self._shown = stock, set[str]()

    def __call__(self, message: Warning | str, *place: Any, **more: Any) -> None:
        text = str(message)
        if text in self._shown:
            return
        if "deterministic" in text:
            self._shown.add(text)
        self._stock(message, *place, **more)


def now(device: torch.device) -> float:
    """Seconds of a clock, read after all work queued on the device has ended: launches return at once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
