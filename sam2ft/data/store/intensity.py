"""Intensity normalization: scanner units to [0, 1] with one window per volume: from percentiles, fixed, or z-scores.

Voxels without a value (NaN, infinite: padding) never enter a window; they are 0 in the store.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import Intensity
from sam2ft.core.errors import DataError
from sam2ft.data.store.store import IMAGE_LEVELS


def intensity_window(image_zyx: npt.NDArray[Any], intensity: Intensity) -> tuple[float, float]:
    """(low, high): the intensities that become 0 and 1, in the unit of the image.

    Raises:
        DataError: when no voxel is finite, the image is constant, or the ends of the window are equal.
    """
    finite = image_zyx if _all_finite(image_zyx) else image_zyx[np.isfinite(image_zyx)]
    if not finite.size:
        raise DataError(f"the image has no value: all {image_zyx.size} voxels are NaN, infinite or padding")
    if (value := finite.min()) == finite.max():
        raise DataError(f"the image is constant: every voxel is {float(value):g}")
    if intensity.window is not None:
        low, high = intensity.window
        if float(finite.max()) <= low or float(value) >= high:
            raise DataError(
                f"the image spans {float(value):g} to {float(finite.max()):g}, all outside intensity.window "
                f"[{low:g}, {high:g}]; give a window in the unit of the images"
            )
        return low, high
    if intensity.zscore is not None:
        mean, sd = float(finite.mean(dtype=np.float64)), float(finite.std(dtype=np.float64))
        return mean + intensity.zscore[0] * sd, mean + intensity.zscore[1] * sd
    low, high = (float(edge) for edge in np.percentile(finite, intensity.clip_percentiles))
    if low >= high:
        first, second = intensity.clip_percentiles
        raise DataError(
            f"percentiles {first:g} and {second:g} of the image are both {low:g}; widen intensity.clip_percentiles"
        )
    return low, high


def missing_values(image_zyx: npt.NDArray[Any]) -> tuple[str, ...]:
    """A note that voxels have no value; none when all have one."""
    if _all_finite(image_zyx):
        return ()
    missing = int((~np.isfinite(image_zyx)).sum())
    return (f"{missing} of {image_zyx.size} voxels have no value (NaN, infinite or padding); they are 0 in the store",)


def _all_finite(image_zyx: npt.NDArray[Any]) -> bool:
    return image_zyx.dtype.kind != "f" or all(bool(np.isfinite(image_yx).all()) for image_yx in image_zyx)


def to_uint16(image_zyx: npt.NDArray[Any], window: tuple[float, float]) -> npt.NDArray[np.uint16]:
    """uint16 image: the low end of the window becomes 0, the high end 65535; intensities outside are clipped.

    Voxels without a finite value become 0.
    """
    low, high = window
    levels = np.empty(image_zyx.shape, dtype=np.uint16)
    for index, image_yx in enumerate(image_zyx):  # slice by slice: a float64 copy of the whole volume needs much memory
        values = image_yx.astype(np.float64)
        unit = np.clip((np.where(np.isfinite(values), values, low) - low) / (high - low), 0, 1)
        levels[index] = np.round(unit * IMAGE_LEVELS).astype(np.uint16)
    return levels


def unit_image(image_yx: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Intensities in [0, 1] of a stored uint16 slice."""
    return np.asarray(image_yx, dtype=np.float32) / np.float32(IMAGE_LEVELS)
