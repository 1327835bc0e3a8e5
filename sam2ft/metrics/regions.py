"""Crops (bounding boxes) of one label per slice and for the volume, shared by all shape metrics."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam2ft.core.prompts import Mask
from sam2ft.metrics.measurement import Level, MaskPair

Block = tuple[slice, ...]


@dataclass(frozen=True)
class Region:
    """One label in one slice (2-D, in-plane spacing) or in the volume (3-D), cropped to the smallest common block."""

    level: Level
    slice: int | None
    status: str
    prediction: Mask
    """Empty array (no pixels) if the status is absent."""
    reference: Mask
    spacing_mm: tuple[float, ...]
    given_instances: npt.NDArray[np.integer] | None = None
    """Given instance ids of the reference; None: its components are its instances."""


def regions_of(pair: MaskPair) -> list[Region]:
    """Region of every evaluated slice, then of the volume; computed once per pair."""
    return pair.once("regions", _regions_of)


def bounding_block(mask: Mask) -> Block:
    """Bounding box of a mask: the smallest block that contains it; an empty block for an empty mask."""
    if not mask.any():
        return (slice(0, 0),) * mask.ndim
    axes = range(mask.ndim)
    projections = (mask.any(axis=tuple(other for other in axes if other != axis)) for axis in axes)
    filled = (np.flatnonzero(projection) for projection in projections)
    return tuple(slice(int(indices[0]), int(indices[-1]) + 1) for indices in filled)


def block_with_room(mask: Mask, rooms: Iterable[int]) -> Block:
    """Bounding box of a non-empty mask with `rooms` more pixels at both ends of each axis, clipped to the image."""
    parts = zip(bounding_block(mask), rooms, strict=True)
    return tuple(slice(max(0, part.start - room), part.stop + room) for part, room in parts)


def _regions_of(pair: MaskPair) -> list[Region]:
    spacing = pair.geometry.spacing_zyx_mm
    blocks: dict[int, Block] = {
        index: bounding_block(pair.prediction_zyx[index] | pair.reference_zyx[index])
        for index, counts in pair.slice_overlaps.items()
        if counts.status != "absent"
    }
    nowhere, ids = (slice(0, 0), slice(0, 0)), pair.given_instances_zyx
    found = []
    for index, counts in pair.slice_overlaps.items():
        at = (index, *blocks.get(index, nowhere))
        masks = pair.prediction_zyx[at], pair.reference_zyx[at]
        found.append(Region("slice", index, counts.status, *masks, spacing[1:], None if ids is None else ids[at]))
    at = _around(blocks)
    masks = pair.prediction_zyx[at], pair.reference_zyx[at]
    found.append(Region("volume", None, pair.status, *masks, spacing, None if ids is None else ids[at]))
    return found


def _around(blocks: dict[int, Block]) -> Block:
    """Bounding box in the volume of the boxes of its slices."""
    if not blocks:
        return (slice(0, 0),) * 3
    rows, columns = zip(*blocks.values(), strict=True)
    return slice(min(blocks), max(blocks) + 1), _hull(rows), _hull(columns)


def _hull(parts: Iterable[slice]) -> slice:
    found = list(parts)
    return slice(min(part.start for part in found), max(part.stop for part in found))
