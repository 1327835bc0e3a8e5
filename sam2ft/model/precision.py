"""Precision of the model (fp32, tf32, bf16, fp16): its choice for a device, and autocast of the forward pass."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from sam2ft.core.errors import CheckpointError
from sam2ft.model.attention import has_amx

Precision = Literal["fp32", "tf32", "bf16", "fp16"]

EMULATED = (
    "warning: this GPU emulates bf16, which is slower than fp32 (GPUs before Ampere, such as T4); fp16 or "
    "fp32 is faster there (module.use_amp: fp16, true or false; eval.precision: fp16 or fp32)"
)

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(use_amp: bool | Literal["fp16", "bf16", "tf32"], device: torch.device) -> Precision:
    """Precision for the setting `module.use_amp`: false is fp32, true is the fastest precision of the device.

    The fastest is bf16 where the device multiplies bf16 matrices faster; otherwise fp16 on a GPU and fp32 on a CPU.
    tf32 is float32 with products of 10 bits of mantissa, which only GPUs have: fp32 on a CPU.
    """
    if not isinstance(use_amp, bool):
        return "fp32" if use_amp == "tf32" and device.type != "cuda" else use_amp
    if not use_amp:
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if has_amx() else "fp32"


def emulates(precision: Precision, device: torch.device) -> bool:
    """Whether the device computes bf16 by emulation, which is slower than fp32 (GPUs before Ampere, such as T4)."""
    return precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)


def kept_precision(written: Precision, device: torch.device) -> Precision:
    """The precision in which a training continues: that of its resume file, because another one gives other weights.

    `module.use_amp: true` may choose another one on the device of the next attempt.

    Raises:
        CheckpointError: this device cannot compute in that precision.
    """
    if device.type != "cuda" and written == "tf32":
        raise CheckpointError(
            "the resume file was written in tf32, which only GPUs have, and this process has none; continue on a GPU, "
            "or start again with --fresh"
        )
    return written


def text_of_kept(kept: Precision, chosen: Precision, device: torch.device) -> str:
    """What to say of a training that continues in another precision than this device would choose."""
    slower = ", although this GPU only emulates it" if emulates(kept, device) else ""
    return f"the training continues in {kept}, in which it was begun{slower}; on this device it would be {chosen}"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Autocast context for the forward pass; it has no effect for fp32 and tf32."""
    return torch.autocast(device.type, dtype=_DTYPES.get(precision), enabled=precision in _DTYPES)


def full_precision(tensor: torch.Tensor) -> torch.Tensor:
    """Convert half precision to float32, keep float32 and float64; losses and masks are computed in these."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
