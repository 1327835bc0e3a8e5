"""Which numbers the model computes in."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from sam2ft.model.attention import has_amx

Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(use_amp: bool | str, device: torch.device) -> Precision:
    """`module.use_amp` as a precision: false is fp32, true is the fastest of the device.

    That is bf16 where it multiplies matrices faster so; else fp16 on a GPU, and fp32 on a CPU.
    """
    if use_amp is False:
        return "fp32"
    if use_amp is True:
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if has_amx() else "fp32"
    if use_amp == "bf16":
        return "bf16"
    if use_amp == "fp16":
        return "fp16"
    raise ValueError(f"use_amp {use_amp!r}; false, true, fp16 or bf16")


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Mixed precision for the forward pass; does nothing for fp32."""
    enabled = precision != "fp32"
    return torch.autocast(device.type, dtype=_DTYPES.get(precision), enabled=enabled)


def full_precision(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision results as float32; float32 and float64 as they are. Losses and masks are computed in these."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
