"""Deterministic bilinear and bicubic resizing (interpolation) as two matrix products with torch's own weights. It
computes what torch.nn.functional.interpolate computes, at least twice as fast on a CPU, and its gradient is bitwise
reproducible (that of interpolate uses atomic additions on CUDA, in an arbitrary order).
"""

from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Mode = Literal["bilinear", "bicubic"]


def resized(values: Tensor, size: tuple[int, int], mode: Mode) -> Tensor:
    """Resize (..., h, w) to (..., *size) like interpolate(align_corners=False), in the dtype of `values`."""
    rows, columns = (
        _weights(before, after, mode, values.device, values.dtype)
        for before, after in zip(values.shape[-2:], size, strict=True)
    )
    with torch.autocast(values.device.type, enabled=False):
        return rows @ values @ columns.mT


@lru_cache(maxsize=64)
def _weights(before: int, after: int, mode: Mode, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Weight matrix (after, before): each new sample is a weighted sum of the old samples."""
    # Cached for later calls, so it must not be an inference tensor: training could not save one for its backward pass.
    with torch.inference_mode(False), torch.no_grad():
        unit = torch.eye(before, dtype=dtype, device=device)[:, None, :, None]
        return F.interpolate(unit, size=(after, 1), mode=mode, align_corners=False)[:, 0, :, 0].T.contiguous()
