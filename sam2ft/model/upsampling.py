"""Upsampling of decoder logits to the ORIGINAL grid of a slice."""

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor


def upsampled_per_slice(logits_n1hw: Tensor, masks: Sequence[Tensor]) -> Iterator[Tensor]:
    """Per slice, the logits of its instances on its ORIGINAL grid (n_i, H_i, W_i), the shape of its masks."""
    start = 0
    for masks_nhw in masks:
        count = len(masks_nhw)
        yield to_original_grid(logits_n1hw[start : start + count], masks_nhw.shape[-2:])
        start += count


def to_original_grid(logits_n1hw: Tensor, shape_yx: Sequence[int]) -> Tensor:
    """Upsample decoder-frame logits to a slice's ORIGINAL grid (n, H, W), as the loss and stock SAM 2 do."""
    return F.interpolate(logits_n1hw, size=tuple(shape_yx), mode="bilinear", align_corners=False)[:, 0]
