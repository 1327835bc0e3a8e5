"""Faster forward pass of the SAM 2 image encoder (Hiera trunk and FPN neck) with the stock layers.

It omits the parts of stock's Hiera.forward, FpnNeck.forward and SAM2Base.forward_image that single slices do not need:
the position encodings of every level, which only memory attention reads, and the two finest levels at full width.
On those levels two 1x1 convolutions follow each other (neck, then decoder). One convolution with the product of their
weights replaces both; it needs an eighth of the channels in between.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2ft.model.resizing import resized

BlockLevels = Callable[[Any, Tensor], list[Tensor]]
"""`block_levels`, or a compiled form of it."""


def trunk_levels(trunk: Any, images_b3hw: Tensor, levels_of: BlockLevels | None = None) -> list[Tensor]:
    """Feature maps of the trunk as Hiera.forward returns them, finest first.

    The first is (b, c, side / 4, side / 4); each next one has half the side and twice the channels.

    Args:
        levels_of: computes them from the embedded patches; None for `block_levels`.
    """
    # The blocks use the layout (b, h, w, c): convolving in the same layout avoids copies.
    x: Tensor = trunk.patch_embed(images_b3hw.contiguous(memory_format=torch.channels_last))
    x = x + _positions(trunk, x.shape[1], x.shape[2])
    return (levels_of or block_levels)(trunk, x)


def block_levels(trunk: Any, x: Tensor) -> list[Tensor]:
    """Feature maps of the trunk from its embedded patches (b, h, w, c) with their positions."""
    levels = []
    for number, block in enumerate(trunk.blocks):
        x = block(x)
        if number in trunk.stage_ends:
            levels.append(x.permute(0, 3, 1, 2))
    return levels


def _positions(trunk: Any, height: int, width: int) -> Tensor:
    """Position embedding (1, h, w, c), as Hiera._get_pos_embed returns it."""
    whole_chw = resized(trunk.pos_embed[0], (height, width), "bicubic")
    window_chw: Tensor = trunk.pos_embed_window[0]
    channels, rows, columns = window_chw.shape
    tiles = whole_chw.view(channels, height // rows, rows, width // columns, columns)
    tiled = tiles + window_chw[:, None, :, None, :]
    return tiled.view(1, channels, height, width).permute(0, 2, 3, 1).contiguous()


def split_levels(image_encoder: Any, levels: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The image embedding, computed as in FpnNeck.forward, and the finer levels unchanged.

    Raises:
        ValueError: for a neck that adds coarser levels to the finer ones; no stock configuration has one.
    """
    neck, coarsest = image_encoder.neck, len(levels) - 1
    embedded = coarsest - image_encoder.scalp
    if neck.fuse_type != "sum" or any(level < embedded for level in neck.fpn_top_down_levels):
        raise ValueError("expected a neck that adds coarser levels to the embedding only")
    embedding: Tensor = lateral(neck, coarsest)(levels[coarsest])
    for level in range(coarsest - 1, embedded - 1, -1):
        beside = lateral(neck, level)(levels[level])
        if level in neck.fpn_top_down_levels:
            corners = None if neck.fpn_interp_model == "nearest" else False
            mode = neck.fpn_interp_model
            beside = beside + F.interpolate(embedding.float(), scale_factor=2.0, mode=mode, align_corners=corners)
        embedding = beside
    return embedding, tuple(levels[:embedded])


def lateral(neck: Any, level: int) -> Any:
    """The neck's 1x1 convolution of a level (0 is the finest); the neck stores them coarsest first."""
    return neck.convs[len(neck.convs) - 1 - level].conv


def fused_convolutions(first: Any, second: Any, values_bchw: Tensor) -> Tensor:
    """`second(first(values))` of two 1x1 convolutions as one convolution; weights are multiplied in full precision."""
    with torch.autocast(values_bchw.device.type, enabled=False):
        inner, outer = first.weight.flatten(1), second.weight.flatten(1)
        weight, bias = outer @ inner, outer @ first.bias + second.bias
    return F.conv2d(values_bchw, weight[:, :, None, None], bias)
