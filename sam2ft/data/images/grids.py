"""A volume on its grid, and bringing one into the voxel order of another's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Spacings that differ by less than this share are equal: headers hold them in float32.
EQUAL_SPACING = 1e-3


@dataclass(frozen=True)
class Volume:
    """One image, mask or map on its own grid."""

    array_zyx: npt.NDArray[Any]
    geometry: Geometry
    slices: Mapping[str, list[Any]] = field(default_factory=dict)
    """Field -> one value per slice, of a DICOM series (see data/store/metadata.SLICE_FIELDS)."""
    subject_fields: Mapping[str, Any] = field(default_factory=dict)


def slice_axis(spacing_mm: npt.NDArray[np.float64]) -> int:
    """Index of the largest spacing, on a tie the last."""
    largest = np.flatnonzero(spacing_mm >= spacing_mm.max() * (1 - EQUAL_SPACING))
    return int(largest[-1])


def permuted_geometry(shape: tuple[int, ...], affine: npt.NDArray[np.float64], xyz: tuple[int, int, int]) -> Geometry:
    """Geometry of an array of `shape` on `affine` whose axes xyz[0], xyz[1], xyz[2] are taken for x, y, z."""
    permuted = affine[:, [*xyz, 3]]
    return Geometry.from_affine((shape[xyz[2]], shape[xyz[1]], shape[xyz[0]]), permuted)


def on_grid(volume: Volume, geometry: Geometry, *, what: str = "mask") -> npt.NDArray[Any]:
    """The array of `volume` in the voxel order of `geometry`, brought there by permuting and flipping axes alone.

    A mask stored with other axes but on the same physical grid is thereby exact; anything else is refused with
    numbers and never resampled. Errors: DataError.
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


def nearest_on_grid(volume: Volume, geometry: Geometry) -> npt.NDArray[Any]:
    """The array of `volume` on the grid of `geometry`: each voxel takes the value of the voxel that its centre lies in.

    Outside of `volume` it is 0. For label maps: no value appears that was not there.
    """
    from scipy import ndimage

    steps = np.linalg.solve(volume.geometry.affine, geometry.affine)
    # Affines count x, y, z; arrays are z, y, x.
    matrix, offset = steps[2::-1, 2::-1], steps[2::-1, 3]
    moved: npt.NDArray[Any] = ndimage.affine_transform(
        np.ascontiguousarray(volume.array_zyx), matrix, offset, geometry.shape_zyx, order=0, mode="grid-constant"
    )
    return moved
