"""Writing NIfTI: an array on its grid as .nii.gz, whose header says where it lies as far as that is known."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.files import replacing
from sam2ft.core.geometry import Geometry
from sam2ft.data.formats.nifti_affine import COSINE_TOLERANCE, shear_of


def write_nifti(
    path: Path, array_zyx: npt.NDArray[Any], geometry: Geometry, *, name_slices: bool = False, level: int = 6
) -> None:
    """Write `array_zyx` (bool as uint8) as .nii.gz with the affine of `geometry`; equal input gives equal bytes.

    NIfTI-1, whose header holds an affine in float32 (a voxel moves by less than 1e-6 of its coordinates): SimpleITK,
    and so most programs, cannot read NIfTI-2. For an image that does not say how it lies, the axes have the order of
    its file, and this file does not say it either.

    Args:
        name_slices: the header names the axis of the slices (dim_info), so that it is cut into the same ones again.
        level: of gzip, 1 to 9.
    """
    import nibabel

    if array_zyx.shape != geometry.shape_zyx:
        raise ValueError(f"array is {array_zyx.shape} but the geometry has {geometry.shape_zyx}")
    values = array_zyx.astype(np.uint8) if array_zyx.dtype == bool else array_zyx
    order = file_axes(geometry)
    array_xyz, affine = values.transpose(2, 1, 0).transpose(order), geometry.affine[:, [*order, 3]]
    image = nibabel.Nifti1Image(array_xyz, affine)
    image.set_sform(affine, code="scanner" if geometry.oriented else "unknown")
    known = geometry.oriented and not is_sheared(geometry)
    image.set_qform(affine, code="scanner" if known else "unknown")
    image.header.set_xyzt_units("mm")
    if name_slices:
        image.header.set_dim_info(slice=order.index(2))
    with replacing(path) as partial:
        partial.write_bytes(gzip.compress(image.to_bytes(), compresslevel=level, mtime=0))


def is_sheared(geometry: Geometry) -> bool:
    """Whether a qform, which holds no shear, would contradict the sform: it is left out, and SimpleITK reads no such
    file."""
    return shear_of(geometry.affine) > COSINE_TOLERANCE / 2


def file_axes(geometry: Geometry) -> tuple[int, int, int]:
    """Which of x, y and z each axis of a file is: as they are, or in the order of an unoriented file."""
    if geometry.oriented:
        return 0, 1, 2
    first, second, third = (int(axis) for axis in np.abs(geometry.affine[:3, :3]).argmax(axis=1))
    return first, second, third
