"""Scaled dot-product attention in float32 under bfloat16 autocast, on CPUs that compute float32 faster.

torch's CPU kernel is the same for both types, but its backward pass over small windows takes 2 to 5 times as long in
bfloat16, and without AMX large windows take nearly twice as long too (benchmarks/README.md).
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


def fastest_attention(device_type: str) -> AbstractContextManager[Any]:
    """Context for a forward pass on a device of this type; it only has an effect under bfloat16 autocast on a CPU."""
    wanted = device_type == "cpu" and torch.is_autocast_enabled("cpu")
    return _Float32Attention() if wanted else nullcontext()


def _is_faster_in_float32(query: Tensor, key: Tensor) -> bool:
    small = query.shape[-2] <= _SMALL and key.shape[-2] <= _SMALL
    return query.dtype == torch.bfloat16 and not query.is_cuda and (small or not has_amx())


@cache
def has_amx() -> bool:
    """Whether this CPU has AMX for bfloat16; without it, bfloat16 matrix products are slower than float32."""
    return bool(torch.cpu.get_capabilities()["amx_bf16"])
