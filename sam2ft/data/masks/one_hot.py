"""Masks with a channel per label in one 4-D file (one-hot), as networks write them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError, listed
from sam2ft.data.images.grids import Segment
from sam2ft.data.masks.layers import Composed, Layer, Meaning, Overlaps, above_zero, composed, distinct

_HELD = (1, 255)
_MOST_SHOWN = 5


def of_channels(channels: Iterable[npt.NDArray[Any]], meaning: Meaning, overlaps: Overlaps) -> Composed:
    """The label map of channels that hold 0 and 1 (or 255) each, on one grid.

    Where every voxel is in exactly one channel, the first channel is background, and channel i (from 0) is the integer
    i. Where some voxel is in no channel, there is no background channel, and channel i is the integer i + 1.

    Raises:
        DataError: a channel holds other values; both readings are possible, because the label table has as many labels
            as there are channels and every voxel is in one; channels overlap and the rule is to refuse.
    """
    masks = [_held(channel, index) for index, channel in enumerate(channels)]
    claims = np.sum(masks, axis=0, dtype=np.uint16)
    everywhere = bool(claims.min() > 0)
    if everywhere and (claims.max() > 1 or len(masks) in meaning.known):
        raise DataError(
            f"has {len(masks)} channels, and every voxel is in at least one of them: whether the first is background "
            "is not known; allowed: channels of which one is background and all are apart, or a mask of integers, or "
            "one file per label (sources.masks: {LABEL: PATTERN})"
        )
    first = 0 if everywhere else 1
    layers = [Layer(Segment(index + first, ""), mask) for index, mask in enumerate(masks) if index + first]
    made = composed(layers, claims.shape, meaning, overlaps)
    background = "the first is background" if everywhere else "none of them is background"
    return Composed(made.array, (), (*made.notes, f"{len(masks)} channels, {background}: the others count from 1"))


def _held(channel: npt.NDArray[Any], index: int) -> npt.NDArray[np.bool_]:
    values = distinct(channel)
    if len(values) > 2 or not {*values.tolist()} <= {0, values.max()} or (values.max() and values.max() not in _HELD):
        shown = listed([f"{value:g}" for value in values], _MOST_SHOWN)
        raise DataError(
            f"channel {index} (from 0) holds the values {shown}; allowed: 0 and 1 in every channel (one-hot); write "
            "probabilities or integers as a mask with one integer per voxel, or choose one volume with mask_channel"
        )
    return above_zero(channel)
