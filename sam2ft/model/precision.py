"""Mixed precision (fp32, bf16, fp16) and autocast of the forward pass."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from sam2ft.model.attention import has_amx

Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(use_amp: bool | Literal["fp16", "bf16"], device: torch.device) -> Precision:
    """Precision for the setting `module.use_amp`: false is fp32, true is the fastest precision of the device.

    The fastest is bf16 where the device multiplies bf16 matrices faster; otherwise fp16 on a GPU and fp32 on a CPU.
    """
    if not isinstance(use_amp, bool):
        return use_amp
    if not use_amp:
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if has_amx() else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Autocast context for the forward pass; it has no effect for fp32."""
    enabled = precision != "fp32"
    return torch.autocast(device.type, dtype=_DTYPES.get(precision), enabled=enabled)


def full_precision(tensor: torch.Tensor) -> torch.Tensor:
    """Convert half precision to float32, keep float32 and float64; losses and masks are computed in these."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
