"""Whether two stored images are the same one, also flipped, with other axes, or with other intensities a x + b.

Every volume has 8 x 8 x 8 block means. Sorted, they are the same for a flipped image and one with other axes, and,
standardized, for one with other intensities. Volumes whose sorted means agree are compared voxel by voxel.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations, product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sam2ft.data.store.store import IMAGE_LEVELS

BLOCKS = 8
LEVELS = 2.0
"""Largest difference of a voxel of the same image, in levels of 65535, beside the rounding of its source."""
MOST_ROUNDING = 260.0
"""Largest rounding that is allowed for, in levels: that of 8 bit whose window takes half of them."""
FEWEST_LEVELS = 64
"""An image of fewer different intensities is not taken for one that was rounded."""

Means = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint16]


class Orientation(NamedTuple):
    """Order of the axes, then the step (1 or -1) along each, which make one array of another."""

    axes: tuple[int, ...]
    steps: tuple[int, ...]

    def of(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        turned: npt.NDArray[Any] = array.transpose(self.axes)[tuple(slice(None, None, step) for step in self.steps)]
        return turned


ORIENTATIONS = tuple(
    Orientation(axes, steps) for axes in permutations(range(3)) for steps in product((1, -1), repeat=3)
)


def block_means(image_zyx: Image) -> list[int]:
    """Means of 8 x 8 x 8 blocks of equal size, zyx, in whole levels; voxels on a border count in part for each side."""
    nz, ny, nx = image_zyx.shape
    rows, columns = _weights(ny), _weights(nx).T
    edges = np.arange(BLOCKS + 1) * (ny / BLOCKS)
    # The rows of one block at a time, which stay in the cache of the processor as float64.
    parts = [slice(int(first), math.ceil(last)) for first, last in pairwise(edges)]
    sums = np.empty((nz, BLOCKS, nx))
    for plane, image_yx in zip(sums, image_zyx, strict=True):
        for row, weights, part in zip(plane, rows, parts, strict=True):
            row[...] = weights[part] @ image_yx[part].astype(np.float64)
    means = np.tensordot(_weights(nz), sums @ columns, axes=1)
    return [int(mean) for mean in np.round(means).ravel()]


def _weights(count: int) -> npt.NDArray[np.float64]:
    """(8, count): the share of each voxel in the mean of each block."""
    edges, voxels = np.arange(BLOCKS + 1) * (count / BLOCKS), np.arange(count)
    ends = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    return np.asarray(np.clip(ends, 0, None) * (BLOCKS / count))


def alike(shapes: Sequence[tuple[int, ...]], means: Means) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of volumes that may have the same image: equal sizes in any order, and near sorted means.

    Args:
        means: (number of volumes, 512), the `block_means` of each.
    """
    ordered = np.sort(_standardized(means), axis=1)
    of_sizes: dict[tuple[int, ...], list[int]] = {}
    for number, shape in enumerate(shapes):
        of_sizes.setdefault(tuple(sorted(shape)), []).append(number)
    for numbers in of_sizes.values():
        members = np.array(numbers)
        values, rooms = ordered[members], np.array([_room(means[member], shapes[member]) for member in numbers])
        for start in range(0, len(members), 512):
            part = values[start : start + 512]
            # An inverted image has the negative means, in the opposite order.
            room = np.maximum(rooms[start : start + 512, None], rooms)
            near = np.minimum(_distances(part, values), _distances(part, -values[:, ::-1])) <= room
            for first, second in np.argwhere(np.triu(near, start + 1)):
                yield int(members[start + first]), int(members[second])


def _room(means: Means, shape: tuple[int, ...]) -> float:
    """Largest RMS difference of the standardized block means of one image and a rounded copy of it.

    The more voxels a block has, the less remains of their rounding.
    """
    voxels = max(1.0, math.prod(shape) / BLOCKS**3)
    contrast = max(1.0, float(means.std()))
    return min(0.05, 0.001 + MOST_ROUNDING / math.sqrt(3 * voxels) / contrast)


def _standardized(means: Means) -> Means:
    """Mean 0 and RMS 1 in each row; 0 in a row whose values are equal."""
    centred = means - means.mean(axis=-1, keepdims=True)
    rms = np.sqrt((centred**2).mean(axis=-1, keepdims=True))
    return np.asarray(np.divide(centred, rms, out=np.zeros_like(centred), where=rms > 0))


def _distances(one: Means, other: Means) -> Means:
    """RMS difference of every row of `one` and every row of `other`."""
    squares = (one**2).mean(axis=1)[:, None] + (other**2).mean(axis=1) - 2 * (one @ other.T) / one.shape[1]
    return np.asarray(np.sqrt(np.clip(squares, 0, None)))


def same_image(one: Image, other: Image, means_one: Means, means_other: Means) -> bool:
    """Whether one of the 48 orientations of `other` is `one` after a linear change of its intensities.

    No voxel may differ by more than 2 of 65535 levels beyond the rounding of the source (an image that was rescaled and
    stored in integers again, up to 8 bit). A voxel at an end of the scale stands for every intensity beyond it.
    """
    first = _standardized(means_one).reshape((BLOCKS,) * 3)
    second = _standardized(means_other).reshape((BLOCKS,) * 3)
    room = max(_room(means_one, one.shape), _room(means_other, other.shape))
    for orientation in ORIENTATIONS:
        turned = orientation.of(second)
        distance = min(float(np.sqrt(((first - sign * turned) ** 2).mean())) for sign in (1, -1))
        if distance <= room and _equal_but_for_scale(one, orientation.of(other)):
            return True
    return False


def _equal_but_for_scale(one: Image, other: Image) -> bool:
    """See `same_image`, for images in the same orientation. A part of the voxels is compared first."""
    if one.shape != other.shape:
        return False
    few = tuple(slice(None, None, max(1, size // 16)) for size in one.shape)
    slope, offset = _line(one[few], other[few])
    # The line of a part is not exactly that of all; of a part that is constant there is none.
    if slope and not _fits(one[few], other[few], slope, offset, 2 * (LEVELS + MOST_ROUNDING)):
        return False
    slope, offset = _line(one, other)
    rounding = min(max(_rounding(other), abs(slope) * _rounding(one)), MOST_ROUNDING)
    # The line itself is known to a tenth of the rounding in the smallest images.
    return _fits(one, other, slope, offset, LEVELS + 1.1 * rounding)


def _line(one: Image, other: Image) -> tuple[float, float]:
    """(slope, offset) of the least-squares line from `one` to `other`, over voxels inside the scale of both."""
    sums = np.zeros((2, 6))
    for x_yx, y_yx in zip(one, other, strict=True):
        x, y = x_yx.astype(np.float64).ravel(), y_yx.astype(np.float64).ravel()
        inside = (x > 0) & (x < IMAGE_LEVELS) & (y > 0) & (y < IMAGE_LEVELS)
        for row, chosen in enumerate((inside, slice(None))):
            u, v = x[chosen], y[chosen]
            sums[row] += len(u), u.sum(), v.sum(), u @ u, v @ v, u @ v
    for count, x, y, xx, yy, xy in sums:
        if count and count * xx > x * x and count * yy > y * y:
            slope = (count * xy - x * y) / (count * xx - x * x)
            return float(slope), float((y - slope * x) / count)
    return 0.0, 0.0


def _fits(one: Image, other: Image, slope: float, offset: float, most: float) -> bool:
    """Whether every voxel of `other` is within `most` levels of the line."""
    if slope == 0:
        return False
    for x_yx, y_yx in zip(one, other, strict=True):
        expected, y = np.clip(slope * x_yx.astype(np.float64) + offset, 0, IMAGE_LEVELS), y_yx.astype(np.float64)
        low, high = (x_yx == 0, x_yx == IMAGE_LEVELS) if slope > 0 else (x_yx == IMAGE_LEVELS, x_yx == 0)
        too_high, too_low = (y > expected + most) & ~high, (y < expected - most) & ~low
        if too_high.any() or too_low.any():
            return False
    return True


def _rounding(image: Image) -> float:
    """Half the distance in levels of the intensities that the source could hold; 0 where it cannot be told."""
    occupied = np.zeros(IMAGE_LEVELS + 1, dtype=np.bool_)
    for image_yx in image:
        occupied[image_yx.ravel()] = True
    levels = np.flatnonzero(occupied[1:-1])
    return float(np.diff(levels).min()) / 2 + 0.5 if len(levels) >= FEWEST_LEVELS else 0.0
