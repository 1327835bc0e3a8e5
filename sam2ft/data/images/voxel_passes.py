"""Passes over the voxels of a volume in the order of memory: counts of values, values by table, whole numbers.

Reading 512 x 512 x 100 voxels by a library takes 0.1 s, and 8-byte copies of them alone twice that: every pass here
works on one plane at a time, which stays in the cache of the processor, with numbers as small as they are stored.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MOST_BINS = 1 << 16
"""Integers of a wider range are not counted one by one."""
_ROW = 1 << 20


def planes(array: Array, *others: Array) -> Iterator[tuple[Array, ...]]:
    """The same planes of arrays of one shape, across the axis along which the first one lies slowest in memory.

    Of a list of values, parts of 2^20. The planes are views.
    """
    if array.ndim == 1:
        yield from (
            tuple(one[start : start + _ROW] for one in (array, *others)) for start in range(0, array.size, _ROW)
        )
        return
    axis = max(range(array.ndim), key=lambda one: (array.shape[one] > 1, abs(array.strides[one])))
    yield from zip(*(np.moveaxis(one, axis, 0) for one in (array, *others)), strict=True)


def whole_histogram(values: Array, ends: tuple[Any, Any] | None = None) -> tuple[int, npt.NDArray[np.int64]] | None:
    """(the least integer, the number of it and of each one above it); None: no integers, or too wide a range.

    Args:
        ends: the least and the greatest value, where they are known.
    """
    if values.dtype.kind not in "iu" or values.dtype == np.uint64:
        return None
    low, high = (int(end) for end in ends or (values.min(), values.max()))
    if high - low >= MOST_BINS:
        return None
    counts = np.zeros(high - low + 1, dtype=np.int64)
    for (plane,) in planes(values):
        counts += np.bincount(np.subtract(plane, low, dtype=np.intp).ravel(), minlength=len(counts))
    return low, counts


def counts_of(labels: Array) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """(the integers >= 0 in a plane, their numbers), by runs of equal neighbours: in label maps these are long."""
    flat = labels.ravel()
    if not flat.size:
        return np.zeros(0, np.intp), np.zeros(0, np.int64)
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)
    # Sums of whole numbers far below 2^53 are exact.
    counts = np.bincount(flat[ends].astype(np.intp), weights=np.diff(ends, prepend=-1)).astype(np.int64)
    found = np.flatnonzero(counts)
    return found, counts[found]


def by_table(indices: Array, table: Array, room: Array | None = None) -> Array:
    """`table[indices]` as a C-ordered array; `indices` are integers >= 0 and below the length of the table.

    Args:
        room: where the result goes, such as the memory of the indices themselves; None: new memory.
    """
    found = np.empty(indices.shape, dtype=table.dtype) if room is None else room
    for plane, target in planes(indices, found):
        places = plane.astype(np.intp)
        if target.flags.c_contiguous:
            np.take(table, places, out=target, mode="clip")  # nothing is clipped; other modes need a buffer
        else:
            target[...] = table[places]
    return found


def exact_uint16(values: Array) -> npt.NDArray[np.uint16] | None:
    """Float values as uint16, C-ordered, if every one is exactly such a number; else None."""
    if not values.size or not (float(values.min()) >= 0 and float(values.max()) <= np.iinfo(np.uint16).max):
        return None
    found = np.empty(values.shape, dtype=np.uint16)
    for plane, target in planes(values, found):
        whole = plane.astype(np.uint16)
        if not (whole == plane).all():
            return None
        target[...] = whole
    return found
