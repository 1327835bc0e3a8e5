"""Filling polygons by the centres of pixels, and holes of outlines that lie in each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError

Pixels = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FilledPolygon:
    """The pixels of one polygon."""

    whole: Pixels
    """Pixels whose centres lie inside or on the outline."""
    inside: Pixels
    """Pixels whose centres lie inside of the outline, not on it."""


def filled_polygon(points: npt.NDArray[np.float64], shape: tuple[int, ...]) -> FilledPolygon:
    """The pixels of a polygon whose vertices are given in indices of pixels: (0, 0) is the centre of the first pixel.

    Where the outline crosses itself, what it goes round an even number of times is outside.

    Args:
        points: (n, 2) in the order of the axes of `shape`.
    """
    from skimage.measure import grid_points_in_poly

    whole, inside = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    low = np.maximum(np.floor(points.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, shape)
    if (high > low).all():
        # 0 outside, 1 inside, 2 vertex, 3 edge.
        found = grid_points_in_poly(tuple((high - low).tolist()), points - low, binarize=False)
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        whole[window], inside[window] = found > 0, found == 1
    return FilledPolygon(whole, inside)


def combined(parts: Sequence[FilledPolygon], *, by_xor: bool = False) -> Pixels:
    """The pixels of several outlines of one region in one slice.

    One that lies in another is a hole, and one in a hole an island; outlines beside each other are both filled.

    Args:
        by_xor: the file says so of all of them: whatever overlaps an even number of times is outside.

    Raises:
        DataError: two outlines overlap and none lies in the other, or they are the same.
    """
    whole = np.zeros_like(parts[0].whole)
    if by_xor:
        for part in parts:
            whole ^= part.whole
        return whole
    for index, part in enumerate(parts):
        for other in parts[:index]:
            _refuse_crossing(part, other)
    depths = [sum(_lies_in(part, other) for other in parts if other is not part) for part in parts]
    for depth, part in sorted(zip(depths, parts, strict=True), key=lambda found: found[0]):
        if depth % 2:  # a pixel on the outline of a hole is of the region around it
            whole &= ~part.inside
        else:
            whole |= part.whole
    return whole


def _lies_in(inner: FilledPolygon, outer: FilledPolygon) -> bool:
    return bool(inner.whole.any() and not (inner.whole & ~outer.whole).any() and (outer.inside & ~inner.whole).any())


def _refuse_crossing(first: FilledPolygon, second: FilledPolygon) -> None:
    shared = int((first.inside & second.inside).sum())
    if shared and not _lies_in(first, second) and not _lies_in(second, first):
        raise DataError(
            f"two contours of one region overlap in {shared} pixels, and none lies in the other; allowed: contours "
            "beside each other or in each other (holes)"
        )
