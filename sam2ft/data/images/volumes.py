"""Reading volumes from NIfTI and NRRD files and DICOM folders as zyx arrays with an exact affine; writing NIfTI."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError, naming
from sam2ft.core.files import replacing
from sam2ft.core.geometry import Geometry
from sam2ft.data.dicom.file import is_dicom, refuse_single_file
from sam2ft.data.dicom.series import read_series
from sam2ft.data.images.grids import Volume, permuted_geometry, reordered_to_grid, slice_axis

# Axes of a grid must be orthogonal within this cosine (about 0.6 degrees): otherwise voxel sizes have no meaning.
RIGHT_ANGLE = 0.01

FORMATS = "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) or a folder with one DICOM series"


def read_volume(path: Path, keep: Sequence[str] = (), reading: Reading = AS_IS) -> Volume:
    """The volume in a file or in a folder of DICOM slices.

    The slice axis of a file is the axis with the largest spacing (of equal ones the last); of the other two the first
    is x. Axes and affine are permuted together and never flipped.

    Args:
        keep: DICOM attributes to keep, as in dicom.read_series.
        reading: the choices of the dataset file.

    Raises:
        DataError: when the file or folder cannot be read exactly.
    """
    if path.is_dir():
        return read_series(path, keep, reading)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    if is_dicom(path):
        refuse_single_file(path)
    array, affine = _read_file(path)
    if array.ndim != 3:
        array = array.reshape(array.shape[:3]) if array.ndim > 3 and max(array.shape[3:]) == 1 else array
    if array.ndim != 3 or min(array.shape) < 1:
        raise DataError(f"{path}: has shape {array.shape}; expected one 3-D volume")
    if array.dtype.kind not in "iufb":
        raise DataError(f"{path}: holds {array.dtype}; expected one number per voxel")
    _refuse_bad_axes(path, affine)
    axis = slice_axis(np.linalg.norm(affine[:3, :3], axis=0))
    x, y = (other for other in range(3) if other != axis)
    geometry = permuted_geometry(array.shape, affine, (x, y, axis))
    grid = {
        "pixel_spacing": list(geometry.spacing_zyx_mm[1:]),
        "slice_spacing": geometry.spacing_zyx_mm[0],
        "rows": geometry.shape_zyx[1],
        "columns": geometry.shape_zyx[2],
    }
    slices = {name: [value] * geometry.shape_zyx[0] for name, value in grid.items()}
    return Volume(array.transpose(axis, y, x), geometry, slices)


def _refuse_bad_axes(path: Path, affine: npt.NDArray[np.float64]) -> None:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() <= 0:
        raise DataError(f"{path}: its affine gives voxel sizes {np.round(lengths, 6).tolist()} mm; each must be > 0")
    directions = affine[:3, :3] / lengths
    cosine = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if cosine > RIGHT_ANGLE:
        raise DataError(
            f"{path}: its axes are not at right angles (cosine {cosine:.3g}); resample it to an orthogonal grid"
        )


def _read_file(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """(array in the axis order of the file, RAS affine of these axes)."""
    if path.name.endswith((".nii", ".nii.gz")):
        return _read_nifti(path)
    if path.suffix in (".nrrd", ".nhdr"):
        return _read_nrrd(path)
    raise DataError(f"{path}: unknown kind of file; allowed: {FORMATS}")


def _read_nifti(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image = nibabel.load(path)
        # dataobj applies slope and intercept of the header; integers without them stay integers.
        array = np.asanyarray(image.dataobj)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: not a readable NIfTI file ({error})") from None
    return array, np.asarray(image.affine, dtype=np.float64)


def _read_nrrd(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    import nrrd

    try:
        array, header = nrrd.read(str(path), index_order="F")
    except (nrrd.NRRDError, OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: not a readable NRRD file ({error})") from None
    if array.ndim != 3:
        raise DataError(f"{path}: has shape {array.shape}; expected one 3-D volume (export one layer, without colours)")
    affine = np.eye(4)
    if "space directions" in header:
        affine[:3, :3] = np.asarray(header["space directions"], dtype=np.float64).T
    elif "spacings" in header:
        affine[:3, :3] = np.diag(np.asarray(header["spacings"], dtype=np.float64))
    else:
        raise DataError(f"{path}: neither 'space directions' nor 'spacings' in its header; voxel sizes are unknown")
    affine[:3, 3] = np.asarray(header.get("space origin", (0, 0, 0)), dtype=np.float64)
    space = str(header.get("space", "left-posterior-superior")).lower()
    if space not in _TO_RAS:
        raise DataError(f"{path}: space {space!r}; allowed: {', '.join(_TO_RAS)}")
    return array, np.diag([*_TO_RAS[space], 1.0]) @ affine


_TO_RAS = {
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
}


def read_reordered(path: Path, geometry: Geometry, *, what: str = "mask") -> npt.NDArray[Any]:
    """The array in `path` in the voxel order of `geometry` (see `on_grid`).

    Raises:
        DataError: naming the file, when it cannot be read or is on another grid.
    """
    with naming(path):
        return reordered_to_grid(read_volume(path), geometry, what=what)


def read_mask(path: Path, image: Volume, reading: Reading = AS_IS) -> npt.NDArray[Any]:
    """The mask in `path` in the voxel order of `image`, whose slices it follows where these were resampled.

    Raises:
        DataError: naming the file, when it cannot be read or is on another grid.
    """
    with naming(path):
        volume = read_series(path, reading=reading, labels=True) if path.is_dir() else read_volume(path, (), reading)
        mask = reordered_to_grid(volume, image.geometry)
    return image.followed_by(mask)


def write_nifti(path: Path, array_zyx: npt.NDArray[Any], geometry: Geometry) -> None:
    """Write `array_zyx` (bool as uint8) as .nii.gz with the affine of `geometry`; equal input gives equal bytes."""
    import nibabel

    if array_zyx.shape != geometry.shape_zyx:
        raise ValueError(f"array is {array_zyx.shape} but the geometry has {geometry.shape_zyx}")
    values = array_zyx.astype(np.uint8) if array_zyx.dtype == bool else array_zyx
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), geometry.affine)
    image.set_sform(geometry.affine, code="scanner")
    image.set_qform(geometry.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    with replacing(path) as partial:
        partial.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
