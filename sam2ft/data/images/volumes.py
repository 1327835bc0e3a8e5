"""Reading volumes from files of all kinds and DICOM folders as zyx arrays with an exact affine."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError, naming
from sam2ft.core.geometry import Geometry
from sam2ft.core.given.wrong_kind import Wanted, not_there, wrong_kind
from sam2ft.core.quiet import quiet_readers
from sam2ft.data.dicom.file import is_dicom
from sam2ft.data.dicom.series import read_series
from sam2ft.data.export.nifti import write_nifti as write_nifti  # noqa: PLC0414 - the inverse of read_volume, imported from here too
from sam2ft.data.formats.nifti_affine import shear_of
from sam2ft.data.formats.picture_stack import is_stack
from sam2ft.data.formats.readers import FORMATS, reader_of
from sam2ft.data.images.grid_policy import Place, placed_by_policy
from sam2ft.data.images.grids import UNORIENTED, FileImage, Volume, permuted_geometry
from sam2ft.data.images.slice_axis import (
    NORMAL_OF,
    SliceAxis,
    acquisition_axis,
    anatomical_axis,
    largest_spacing_axis,
    plane_of,
)

# Axes of a grid must be orthogonal within this cosine (about 0.6 degrees): otherwise voxel sizes have no meaning.
RIGHT_ANGLE = 0.01
# Voxel edges of images of people and specimens; others are a unit gone wrong more often than an image.
PLAUSIBLE_MM = (0.01, 50.0)
POSSIBLE_MM = (1e-5, 1000.0)
# Fields of a slice that are those of its grid, and those that belong to the slices of the series alone.
_GRID_FIELDS = ("pixel_spacing", "slice_spacing", "rows", "columns")
_PLACE_FIELDS = (
    *("image_position_patient", "image_orientation_patient", "slice_location", "instanceNumber"),
    *("slice_thickness", "spacing_between_slices"),
)


@quiet_readers()
def read_volume(
    path: Path, keep: Sequence[str] = (), reading: Reading = AS_IS, *, version_1: bool = False, labels: bool = False
) -> Volume:
    """The volume in a file or in a folder of DICOM slices.

    The slice axis is that of `reading.slice_axis`; auto: the plane of acquisition (slice_axis.acquisition_axis; the
    slices of a DICOM series). Of the other two axes the first is x. Axes and affine are permuted together and never
    flipped or resampled.

    Args:
        keep: DICOM attributes to keep, as in dicom.read_series.
        reading: the choices of the dataset file.
        version_1: by the rules of stores of version 1: auto is the axis of a file with the largest spacing, of equal
            ones the last, and dz of a DICOM series is the median of its distances.
        labels: the volume is a mask: the integers of a DICOM series are kept as they are (dicom.read_series).

    Raises:
        DataError: when the file or folder cannot be read exactly, fields of its header contradict each other, or no
            axis is that of the plane `reading.slice_axis`.
    """
    if not path.exists():
        raise DataError(not_there(path, Wanted.MASK) or f"{path}: no such file or folder")
    if (path.is_dir() and not is_stack(path)) or (path.is_file() and is_dicom(path)):
        with naming(path):
            series = read_series(path, keep, reading, labels=labels, median_dz=version_1)
            sizes = _size_notes(np.array(series.geometry.spacing_zyx_mm), "PixelSpacing, SpacingBetweenSlices")
            noted = replace(series, notes=(*series.notes, *sizes))
            return replace(_cut_series(noted, reading), name=str(path), reading=reading)
    with naming(path):
        return replace(cut_file(_read_file(path, reading), reading, version_1), name=str(path), reading=reading)


def cut_file(image: FileImage, reading: Reading, version_1: bool = False) -> Volume:
    """The content of a file as a volume: cut into slices along the axis of `reading` (see `read_volume`)."""
    array, affine = image.array, image.affine
    _refuse_bad_axes(affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    notes = [*image.notes, *_size_notes(spacing, image.unit_field)]
    if reading.slice_axis != "auto":
        axis = _given_axis(reading.slice_axis, affine, oriented=image.oriented)
    else:
        index, reason = acquisition_axis(array.shape, spacing, image.slice_dimension)
        if image.slices_known and image.slice_dimension is not None:
            index, reason = image.slice_dimension, "slices"
        elif version_1:
            index, reason = largest_spacing_axis(spacing), "largest spacing"
        axis = SliceAxis(index, reason, plane_of(index, affine) if image.oriented else None)
        notes += _odd_spacing_notes(array.shape, spacing, axis)
    x, y = (other for other in range(3) if other != axis.index)
    geometry = permuted_geometry(array.shape, affine, (x, y, axis.index), oriented=image.oriented)
    facts = {"slice_axis": axis.fact(reading.slice_axis)}
    cut = array.transpose(axis.index, y, x)
    return Volume(cut, geometry, grid_fields(geometry), {}, tuple(notes), facts, image.segments, file_axis=axis.index)


def _odd_spacing_notes(shape: tuple[int, ...], spacing_mm: npt.NDArray[np.float64], axis: SliceAxis) -> list[str]:
    """A note where dim_info names another axis than a clearly odd spacing does."""
    index, reason = acquisition_axis(shape, spacing_mm, None)
    if axis.reason != "dim_info" or reason != "odd spacing" or index == axis.index:
        return []
    edges = " x ".join(f"{edge:.6g}" for edge in spacing_mm)
    return [
        f"dim_info names axis {axis.index} as that of the slices, but voxels of {edges} mm speak for axis {index}; "
        f"dim_info is used, slice_axis: {index} chooses the other"
    ]


def _cut_series(volume: Volume, reading: Reading) -> Volume:
    """A series along the axis of `reading`: its own slices, or its voxels as slices across another axis."""
    affine = volume.geometry.affine
    if reading.slice_axis == "auto":
        axis = SliceAxis(2, "acquisition", plane_of(2, affine))
    else:
        axis = _given_axis(reading.slice_axis, affine, oriented=True)
    facts = {**volume.facts, "slice_axis": axis.fact(reading.slice_axis)}
    if axis.index == 2:
        return replace(volume, facts=facts)
    array_xyz = volume.array_zyx.transpose(2, 1, 0)
    x, y = (other for other in range(3) if other != axis.index)
    geometry = permuted_geometry(array_xyz.shape, affine, (x, y, axis.index))
    geometry = replace(geometry, dz_source=volume.geometry.dz_source)
    slices = grid_fields(geometry)
    for name, values in volume.slices.items():
        # What all slices have in common holds for the new slices too; the rest belongs to the old ones.
        if name not in (*_GRID_FIELDS, *_PLACE_FIELDS) and all(value == values[0] for value in values):
            slices[name] = [values[0]] * geometry.shape_zyx[0]
    order = (axis.index, y, x)
    cut = replace(volume, array_zyx=array_xyz.transpose(order), geometry=geometry, slices=slices, facts=facts)
    return replace(cut, nearest_axis=order.index(2), file_axis=axis.index)


def _given_axis(chosen: str, affine: npt.NDArray[np.float64], *, oriented: bool) -> SliceAxis:
    if chosen in NORMAL_OF:
        if not oriented:
            raise DataError(
                f"slice_axis: {chosen}: its header does not say how the axes lie in the body ({UNORIENTED}); "
                "give the index of an axis, slice_axis: 0, 1 or 2"
            )
        return SliceAxis(anatomical_axis(chosen, affine), "given", chosen)
    return SliceAxis(int(chosen), "given", plane_of(int(chosen), affine) if oriented else None)


def grid_fields(geometry: Geometry) -> dict[str, list[Any]]:
    """The fields of the slices of a grid: field -> one value per slice."""
    grid = {
        "pixel_spacing": list(geometry.spacing_zyx_mm[1:]),
        "slice_spacing": geometry.spacing_zyx_mm[0],
        "rows": geometry.shape_zyx[1],
        "columns": geometry.shape_zyx[2],
    }
    return {name: [value] * geometry.shape_zyx[0] for name, value in grid.items()}


def _refuse_bad_axes(affine: npt.NDArray[np.float64]) -> None:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() <= 0:
        raise DataError(f"its affine gives voxel sizes {np.round(lengths, 6).tolist()} mm; each must be > 0")
    if (cosine := shear_of(affine)) > RIGHT_ANGLE:
        raise DataError(f"its axes are not at right angles (cosine {cosine:.3g}); resample it to an orthogonal grid")


def _size_notes(spacing_mm: npt.NDArray[np.float64], unit_field: str) -> list[str]:
    """Notes on voxel edges that are hardly those of an image of a body; DataError for edges that cannot be."""
    edges = " x ".join(f"{edge:.6g}" for edge in spacing_mm)
    spacing_mm = spacing_mm.astype(np.float32)  # as headers store them: 0.01 is not below 0.01
    low, high = POSSIBLE_MM
    if spacing_mm.min() < np.float32(low) or spacing_mm.max() > high:
        raise DataError(
            f"its voxels measure {edges} mm; allowed: edges of {low:g} to {high:g} mm; write the right unit of lengths "
            f"to its header ({unit_field})"
        )
    low, high = PLAUSIBLE_MM
    if spacing_mm.min() < np.float32(low) or spacing_mm.max() > high:
        return [f"voxels of {edges} mm, outside of {low:g} to {high:g} mm; check the unit in its header ({unit_field})"]
    return []


def _read_file(path: Path, reading: Reading) -> FileImage:
    reader = reader_of(path)
    if reader is None:
        known = None if _is_of_nibabel(path) else wrong_kind(path, Wanted.MASK)
        raise DataError(known or f"{path}: unknown kind of file; allowed: {FORMATS}; {_way_out(path)}")
    return reader.read(path, reading)


def _is_of_nibabel(path: Path) -> bool:
    """Whether nibabel reads a file that is not read here: Philips PAR/REC, AFNI, MINC 1 (SimpleITK reads MINC 2)."""
    if path.name.lower().endswith((".par", ".rec", ".head", ".brik", ".brik.gz")):
        return True
    with path.open("rb") as stream:
        return path.suffix.lower() == ".mnc" and stream.read(3) == b"CDF"


def _way_out(path: Path) -> str:
    if path.suffix.lower() == ".dcm":
        return "name the folder of the series, not a file"
    target = path.name.split(".")[0] + ".nii.gz"
    if _is_of_nibabel(path):
        return (
            "convert it: in Python with nibabel: "
            f"nibabel.save(nibabel.Nifti1Image.from_image(nibabel.load('{path.name}')), '{target}')"
        )
    return (
        f"convert it: 3D Slicer (File, Save), or in Python with SimpleITK: WriteImage(ReadImage('{path.name}'), "
        f"'{target}')"
    )


def read_reordered(path: Path, geometry: Geometry, *, what: str = "mask", reading: Reading = AS_IS) -> npt.NDArray[Any]:
    """The array in `path` in the voxel order of `geometry`, as `read_on_grid` reads it."""
    return read_on_grid(path, geometry, what=what, reading=reading).array_zyx


@quiet_readers()
def read_on_grid(
    path: Path,
    geometry: Geometry,
    *,
    what: str = "mask",
    reading: Reading = AS_IS,
    image: str = "its image",
    image_axis: int = 2,
) -> Volume:
    """The volume in `path` in the voxel order of `geometry` (see grid_policy.placed_by_policy).

    Args:
        image: name of the image in messages.
        image_axis: axis of the file of the image along which it is cut into slices, for `grid: trust-array`.
        reading: the choices of the dataset file; the slice axis is that of `geometry`.

    Raises:
        DataError: naming the file, when it cannot be read or is on another grid.
    """
    with naming(path):
        # The integers of a mask are no signals: nothing is rescaled or left out.
        volume = read_volume(path, reading=reading.of_masks, labels=True)
        notes = tuple(f"{what}: {note}" for note in volume.notes)
        place = Place(geometry, reading.grid, what, image, image_axis)
        return placed_by_policy(replace(volume, notes=notes), place)
