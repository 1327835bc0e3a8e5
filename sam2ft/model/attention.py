"""Scaled dot-product attention where torch's own call is slow or impossible.

On CPUs that compute float32 faster: in float32 under bfloat16 autocast. torch's CPU kernel is the same for both types,
but its backward pass over small windows takes 2 to 5 times as long in bfloat16, and without AMX large windows take
nearly twice as long too (benchmarks/README.md).

On GPUs: the kernels put the windows of a batch into a dimension of their grid, which has at most 65,535 places; 64
slices of 1024 px have 65,536 windows in the first stage. Larger batches are computed in parts.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Hiera's windows have 16 to 196 tokens; its global blocks have the whole grid.
_SMALL = 256
MOST_WINDOWS = 65_535
"""Largest size of a CUDA grid in y and z (CUDA C++ Programming Guide, compute capabilities)."""
# Side of a patch and of a window of Hiera's first stage, which has the most windows.
_PATCH, _WINDOW = 4, 8


class _Float32Attention(TorchFunctionMode):
    """Compute scaled_dot_product_attention of bfloat16 CPU tensors in float32; the result is bfloat16."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        keywords = keywords or {}
        if function is F.scaled_dot_product_attention and _is_faster_in_float32(*arguments[:2]):
            query, key, value, *rest = arguments
            with torch.autocast("cpu", enabled=False):
                result = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), *rest, **keywords)
            return result.to(query.dtype)
        return function(*arguments, **keywords)


class _AttentionInParts(TorchFunctionMode):
    """Compute scaled_dot_product_attention of large batches in parts of at most `most` entries."""

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        keywords = keywords or {}
        if function is not F.scaled_dot_product_attention or len(arguments[0]) <= self._most:
            return function(*arguments, **keywords)
        tensors, rest = arguments[:3], arguments[3:]
        parts = zip(*(tensor.split(self._most) for tensor in tensors), strict=True)
        return torch.cat([function(*part, *rest, **keywords) for part in parts])


def fastest_attention(device_type: str, num_windows: int = 0) -> AbstractContextManager[Any]:
    """Context for a forward pass on a device of this type.

    It only has an effect under bfloat16 autocast on a CPU, and on a GPU for more than 65,535 windows.
    """
    if device_type == "cpu" and torch.is_autocast_enabled("cpu"):
        return _Float32Attention()
    return _AttentionInParts(MOST_WINDOWS) if device_type == "cuda" and num_windows > MOST_WINDOWS else nullcontext()


def _is_faster_in_float32(query: Tensor, key: Tensor) -> bool:
    small = query.shape[-2] <= _SMALL and key.shape[-2] <= _SMALL
    return query.dtype == torch.bfloat16 and not query.is_cuda and (small or not has_amx())


def windows_of(num_slices: int, image_size: int) -> int:
    """Number of attention windows of the first stage of the encoder; windows at the edge are padded, so they count."""
    side = -(-image_size // (_PATCH * _WINDOW))
    return num_slices * side**2


@cache
def has_amx() -> bool:
    """Whether this CPU has AMX for bfloat16; without it, bfloat16 matrix products are slower than float32."""
    return bool(torch.cpu.get_capabilities()["amx_bf16"])
