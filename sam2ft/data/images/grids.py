"""Image volume on its voxel grid; reordering its axes (permute, flip) or nearest-neighbour transfer to another grid."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Spacings whose relative difference is smaller than this are equal: headers store them as float32.
EQUAL_SPACING = 1e-3


@dataclass(frozen=True)
class Volume:
    """One image, mask or map on its own grid."""

    array_zyx: npt.NDArray[Any]
    geometry: Geometry
    slices: Mapping[str, list[Any]] = field(default_factory=dict)
    """Field -> one value per slice (DICOM series: see data/store/metadata.SLICE_FIELDS; files: fields of the grid)."""
    subject_fields: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What a reader of the numbers should know: one sentence each, without the path of the file."""
    nearest_slices: tuple[int, ...] | None = None
    """For a series with uneven distances that was resampled: index of the given slice nearest to each slice; a mask
    that was drawn on the given slices follows with these indices. None for any other volume."""
    nearest_axis: int = 0
    """Axis of the array along which `nearest_slices` counts (another than 0 when the series was cut along another)."""

    def followed_by(self, mask_zyx: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A mask in the voxel order of this volume whose slices follow those of a resampled series."""
        if self.nearest_slices is None:
            return mask_zyx
        return np.take(mask_zyx, self.nearest_slices, axis=self.nearest_axis)


def slice_axis(spacing_mm: npt.NDArray[np.float64]) -> int:
    """Index of the largest spacing; of equal spacings the last."""
    largest = np.flatnonzero(spacing_mm >= spacing_mm.max() * (1 - EQUAL_SPACING))
    return int(largest[-1])


def permuted_geometry(shape: tuple[int, ...], affine: npt.NDArray[np.float64], xyz: tuple[int, int, int]) -> Geometry:
    """Geometry of an array of `shape` with `affine` when its axes xyz[0], xyz[1], xyz[2] are used as x, y, z."""
    permuted = affine[:, [*xyz, 3]]
    return Geometry.from_affine((shape[xyz[2]], shape[xyz[1]], shape[xyz[0]]), permuted)


def reordered_to_grid(volume: Volume, geometry: Geometry, *, what: str = "mask") -> npt.NDArray[Any]:
    """The array of `volume` in the voxel order of `geometry`; axes are only permuted and flipped, never resampled.

    A mask on the same physical grid but with another axis order is therefore transferred exactly.

    Args:
        what: name of the volume in error messages.

    Raises:
        DataError: when the volume is on another physical grid; the message gives the difference in numbers.
    """
    # Voxel steps of the volume in voxel steps of the target: a signed permutation when the axes are parallel.
    steps = np.linalg.solve(geometry.affine, volume.geometry.affine)[:3, :3]
    target_of = np.abs(steps).argmax(axis=0)
    if sorted(target_of) != [0, 1, 2]:
        raise DataError(f"{what} and image are on different grids: their axes are not parallel")
    array_xyz, affine = volume.array_zyx.transpose(2, 1, 0), volume.geometry.affine
    for axis in range(3):
        if steps[target_of[axis], axis] < 0:
            last = np.eye(4)
            last[axis, axis], last[axis, 3] = -1, array_xyz.shape[axis] - 1
            array_xyz, affine = np.flip(array_xyz, axis), affine @ last
    order = [int(i) for i in np.argsort(target_of)]
    moved = permuted_geometry(array_xyz.shape, affine, (order[0], order[1], order[2]))
    if difference := geometry.difference(moved):
        raise DataError(f"image and {what} are on different grids: {difference}")
    return array_xyz.transpose(order[2], order[1], order[0])


def resampled_nearest(volume: Volume, geometry: Geometry) -> npt.NDArray[Any]:
    """Nearest-neighbour resampling of `volume` to the grid of `geometry`, for label maps.

    Each voxel gets the value of the source voxel that contains its centre, and 0 outside `volume`; no new values occur.
    """
    from scipy import ndimage

    steps = np.linalg.solve(volume.geometry.affine, geometry.affine)
    # Affines are in the order x, y, z; arrays in the order z, y, x.
    matrix, offset = steps[2::-1, 2::-1], steps[2::-1, 3]
    moved: npt.NDArray[Any] = ndimage.affine_transform(
        np.ascontiguousarray(volume.array_zyx), matrix, offset, geometry.shape_zyx, order=0, mode="grid-constant"
    )
    return moved
