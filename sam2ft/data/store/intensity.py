"""Intensity normalization: scanner units to [0, 1] with one window per volume: from percentiles, fixed, or z-scores.

Voxels without a value (NaN, infinite: padding) never enter a window; they are 0 in the store.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import Intensity
from sam2ft.core.errors import DataError
from sam2ft.data.images.voxel_passes import by_table, planes, whole_histogram
from sam2ft.data.store.store import IMAGE_LEVELS

_HALF = 1 << 16
_SIGN = np.uint32(1 << 31)
# Place of the upper half of a float32 (sign, exponent, 7 bits) in its two uint16.
_UPPER = 1 if sys.byteorder == "little" else 0


def intensity_window(image_zyx: npt.NDArray[Any], intensity: Intensity) -> tuple[float, float]:
    """(low, high): the intensities that become 0 and 1, in the unit of the image.

    Raises:
        DataError: when no voxel is finite, the image is constant, or the ends of the window are equal.
    """
    finite, ends = image_zyx, _ends(image_zyx)
    if ends is None:
        finite = image_zyx[np.isfinite(image_zyx)]
        ends = _ends(finite)
    if ends is None:
        raise DataError(f"the image has no value: all {image_zyx.size} voxels are NaN, infinite or padding")
    lowest, highest = ends
    if lowest == highest:
        raise DataError(f"the image is constant: every voxel is {float(lowest):g}")
    if intensity.window is not None:
        low, high = intensity.window
        if float(highest) <= low or float(lowest) >= high:
            raise DataError(
                f"the image spans {float(lowest):g} to {float(highest):g}, all outside intensity.window "
                f"[{low:g}, {high:g}]; give a window in the unit of the images"
            )
        return low, high
    if intensity.zscore is not None:
        mean, sd = float(finite.mean(dtype=np.float64)), float(finite.std(dtype=np.float64))
        return mean + intensity.zscore[0] * sd, mean + intensity.zscore[1] * sd
    low, high = _percentiles(finite, intensity.clip_percentiles, ends)
    if low >= high:
        first, second = intensity.clip_percentiles
        raise DataError(
            f"percentiles {first:g} and {second:g} of the image are both {low:g}; widen intensity.clip_percentiles"
        )
    return low, high


def _percentiles(
    values: npt.NDArray[Any], percentages: tuple[float, float], ends: tuple[Any, Any] | None = None
) -> tuple[float, float]:
    """`np.percentile` (linear), of integers and float32 by counting, without its copies of all values."""
    places = [percentage / 100 * (values.size - 1) for percentage in percentages]
    ranks = sorted({rank for place in places for rank in (int(place), min(int(place) + 1, values.size - 1))})
    if values.dtype == np.float32:
        at = dict(zip(ranks, _order_statistics(values, ranks), strict=True))
    elif (counted := whole_histogram(values, ends)) is not None:
        lowest, counts = counted
        found = np.searchsorted(np.cumsum(counts), ranks, side="right") + lowest
        at = dict(zip(ranks, found.tolist(), strict=True))
    else:
        low, high = np.percentile(values, percentages)
        return float(low), float(high)

    def between(place: float) -> float:
        below, above = at[int(place)], at[min(int(place) + 1, values.size - 1)]
        share, step = place - int(place), float(above - below)
        # As NumPy does, from the nearer end.
        return float(below) + step * share if share < 0.5 else float(above) - step * (1 - share)

    return between(places[0]), between(places[1])


def _order_statistics(values: npt.NDArray[np.float32], ranks: Sequence[int]) -> list[np.float32]:
    """The values at 0-based ranks, by counting the upper and then the lower halves of their bits."""
    raw = np.zeros(_HALF, np.int64)
    for (plane,) in planes(values):
        raw += np.bincount(_upper_halves(np.ascontiguousarray(plane)), minlength=_HALF)
    counts = raw[_IN_ORDER]
    ends = np.cumsum(counts)
    uppers = [int(upper) for upper in np.searchsorted(ends, ranks, side="right")]
    lower = {upper: np.zeros(_HALF, np.int64) for upper in uppers}
    for (plane,) in planes(values):
        flat = np.ascontiguousarray(plane).ravel()
        halves = _upper_halves(flat)
        for upper in lower:
            keys = _sortable(flat[halves == _IN_ORDER[upper]])
            lower[upper] += np.bincount(keys & (_HALF - 1), minlength=_HALF)
    statistics = []
    for rank, upper in zip(ranks, uppers, strict=True):
        before = int(ends[upper] - counts[upper])
        key = np.uint32((upper << 16) + int(np.searchsorted(np.cumsum(lower[upper]), rank - before, side="right")))
        bits = key ^ (_SIGN if key & _SIGN else ~np.uint32(0))
        statistics.append(np.array([bits], np.uint32).view(np.float32)[0])
    return statistics


def _upper_halves(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    return values.view(np.uint16).reshape(-1)[_UPPER::2]


_IN_ORDER = np.concatenate([np.arange(_HALF - 1, _HALF // 2 - 1, -1), np.arange(_HALF // 2)])
"""Upper halves of float32 in the order of their values: those with the sign bit first, the largest of them first."""


def _sortable(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Integers in the order of finite float32 values: their bits, those of negative ones turned round."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def missing_values(image_zyx: npt.NDArray[Any]) -> tuple[str, ...]:
    """A note that voxels have no value; none when all have one."""
    if image_zyx.dtype.kind != "f":
        return ()
    missing = image_zyx.size - sum(int(np.count_nonzero(np.isfinite(plane))) for (plane,) in planes(image_zyx))
    if not missing:
        return ()
    return (f"{missing} of {image_zyx.size} voxels have no value (NaN, infinite or padding); they are 0 in the store",)


def _ends(values: npt.NDArray[Any]) -> tuple[Any, Any] | None:
    """The least and the greatest value; None: there is no value, or one of them is not finite."""
    if not values.size:
        return None
    ends = values.min(), values.max()  # NaN goes before all numbers in both
    return ends if values.dtype.kind != "f" or np.isfinite(ends).all() else None


def to_uint16(
    image_zyx: npt.NDArray[Any], window: tuple[float, float], *, in_place: bool = False
) -> npt.NDArray[np.uint16]:
    """uint16 image: the low end of the window becomes 0, the high end 65535; intensities outside are clipped.

    Voxels without a finite value become 0.

    Args:
        in_place: the image is not needed any more: its memory is used where it has the size and order of the result,
            because new memory costs as much time as the levels themselves.
    """
    if image_zyx.dtype.kind in "iu" and image_zyx.dtype.itemsize <= 2:
        unsigned = np.dtype(f"u{image_zyx.dtype.itemsize}")
        every = np.arange(np.iinfo(unsigned).max + 1).astype(unsigned).view(image_zyx.dtype)
        indices = image_zyx.view(unsigned)
        fits = in_place and unsigned == np.uint16 and image_zyx.flags.c_contiguous and image_zyx.flags.writeable
        return by_table(indices, _levels(every, window), indices if fits else None)
    levels = np.empty(image_zyx.shape, dtype=np.uint16)
    for plane, target in planes(image_zyx, levels):  # a float64 copy of the whole volume needs much memory
        target[...] = _levels(plane, window)
    return levels


def _levels(values: npt.NDArray[Any], window: tuple[float, float]) -> npt.NDArray[np.uint16]:
    low, high = window
    unit = values.astype(np.float64)
    if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        unit[~finite] = low
    unit -= low
    unit /= high - low
    np.clip(unit, 0, 1, out=unit)
    unit *= IMAGE_LEVELS
    return np.rint(unit, out=unit).astype(np.uint16)


def unit_image(image_yx: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Intensities in [0, 1] of a stored uint16 slice."""
    return np.asarray(image_yx, dtype=np.float32) / np.float32(IMAGE_LEVELS)
