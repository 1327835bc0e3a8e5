"""Intensity normalization: scanner units to [0, 1] with one window per volume, from percentiles of all its voxels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.data.store.store import IMAGE_LEVELS


def intensity_window(image_zyx: npt.NDArray[Any], clip_percentiles: tuple[float, float]) -> tuple[float, float]:
    """(low, high): the intensities at the two percentiles of the whole volume.

    Raises:
        DataError: when the image has NaN or infinite voxels, is constant, or both percentiles are equal.
    """
    if image_zyx.dtype.kind == "f" and not (finite := np.isfinite(image_zyx)).all():
        raise DataError(f"the image has {int((~finite).sum())} NaN or infinite voxels of {image_zyx.size}")
    if (value := image_zyx.min()) == image_zyx.max():
        raise DataError(f"the image is constant: every voxel is {float(value):g}")
    low, high = (float(edge) for edge in np.percentile(image_zyx, clip_percentiles))
    if low >= high:
        first, second = clip_percentiles
        raise DataError(
            f"percentiles {first:g} and {second:g} of the image are both {low:g}; widen intensity.clip_percentiles"
        )
    return low, high


def to_uint16(image_zyx: npt.NDArray[Any], window: tuple[float, float]) -> npt.NDArray[np.uint16]:
    """uint16 image: the low end of the window becomes 0, the high end 65535; intensities outside are clipped."""
    low, high = window
    levels = np.empty(image_zyx.shape, dtype=np.uint16)
    for index, image_yx in enumerate(image_zyx):  # slice by slice: a float64 copy of the whole volume needs much memory
        unit = np.clip((image_yx.astype(np.float64) - low) / (high - low), 0, 1)
        levels[index] = np.round(unit * IMAGE_LEVELS).astype(np.uint16)
    return levels


def unit_image(image_yx: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Intensities in [0, 1] of a stored uint16 slice."""
    return np.asarray(image_yx, dtype=np.float32) / np.float32(IMAGE_LEVELS)
