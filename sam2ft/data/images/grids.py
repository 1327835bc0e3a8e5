"""Image volume on its voxel grid; reordering its axes (permute, flip) or nearest-neighbour transfer to another grid."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNORIENTED = (
    "NIfTI: sform_code and qform_code are 0; NRRD: no space directions; MetaImage: no TransformMatrix; ANALYZE, arrays "
    "and pictures never do"
)
"""Files that do not say how they lie, for messages."""
# A mask, map or prediction lies on the grid of an image when corners agree within this fraction of the smallest voxel
# edge: toolboxes that re-orient headers move corners by some hundredths of a voxel. Nothing is resampled within it.
PLACED_TOLERANCE_VOXELS = 0.1


@dataclass(frozen=True)
class Segment:
    """One segment of a segmentation file that names its labels (.seg.nrrd)."""

    value: int
    """Integer of its voxels."""
    name: str
    identity: str = ""
    """The ID that the program gave it."""
    layer: int = 0
    """Layer of a file with several, which may overlap."""


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
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How it was read, for the record of the store: slice_axis (chosen, axis, plane), modality of a DICOM series."""
    segments: tuple[Segment, ...] = ()
    """The segments of a file that names them; such a file may be cropped to its segments."""
    nearest_slices: tuple[int, ...] | None = None
    """For a series with uneven distances that was resampled: index of the given slice nearest to each slice; a mask
    that was drawn on the given slices follows with these indices. None for any other volume."""
    name: str = ""
    """Path of its file or folder, for messages."""
    nearest_axis: int = 0
    """Axis of the array along which `nearest_slices` counts (another than 0 when the series was cut along another)."""
    file_axis: int = 2
    """Axis of its file along which it is cut into slices (of a series: 0 columns, 1 rows, 2 slices)."""
    reading: Reading = AS_IS
    """How its file was read, to read its headers again."""

    @property
    def nearest_facts(self) -> dict[str, Any]:
        """`nearest_slices` and `nearest_axis` for the record of the store; empty for a volume as it was given."""
        if self.nearest_slices is None:
            return {}
        return {"nearest_slices": [int(index) for index in self.nearest_slices], "nearest_axis": self.nearest_axis}

    def followed_by(self, mask_zyx: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A mask in the voxel order of this volume whose slices follow those of a resampled series."""
        if self.nearest_slices is None:
            return mask_zyx
        return np.take(mask_zyx, self.nearest_slices, axis=self.nearest_axis)


@dataclass(frozen=True)
class FileImage:
    """The content of one image file, in the axis order of the file."""

    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    """4 x 4, voxel index in the file -> RAS mm."""
    unit_field: str
    """Name of the header field that gives the unit of lengths."""
    notes: tuple[str, ...] = ()
    slice_dimension: int | None = None
    """The axis that the header names as that of the slices."""
    oriented: bool = True
    """False: the header does not say how the axes lie in the body."""
    segments: tuple[Segment, ...] = ()
    slices_known: bool = False
    """Whether `slice_dimension` is sure: the pictures of a stack, or the axis that the dataset file calls z."""


def permuted_geometry(
    shape: tuple[int, ...], affine: npt.NDArray[np.float64], xyz: tuple[int, int, int], *, oriented: bool = True
) -> Geometry:
    """Geometry of an array of `shape` with `affine` when its axes xyz[0], xyz[1], xyz[2] are used as x, y, z."""
    permuted = affine[:, [*xyz, 3]]
    return Geometry.from_affine((shape[xyz[2]], shape[xyz[1]], shape[xyz[0]]), permuted, oriented=oriented)


def refuse_one_unoriented(volume: Volume, geometry: Geometry, *, what: str = "mask", image: str = "its image") -> None:
    """DataError when the header of one of both does not say how it lies in the body, and that of the other one does.

    Args:
        image: name of the image in messages.
    """
    reason = f"does not say how it lies in the body ({UNORIENTED})"
    variable = what.split(maxsplit=1)[0]
    if geometry.oriented and not volume.geometry.oriented:
        raise DataError(
            f"its header {reason}, but that of {image} does; if the {what} was drawn on these voxels, copy the header "
            f"of the image, e.g. in Python with SimpleITK: {variable}.CopyInformation(image)"
        )
    if volume.geometry.oriented and not geometry.oriented:
        raise DataError(
            f"the header of {image} {reason}, but that of the {what} does; if the {what} was drawn on these voxels, "
            f"copy its header to the image, e.g. in Python with SimpleITK: image.CopyInformation({variable})"
        )


def refuse_unoriented_resampling(volume: Volume, geometry: Geometry, *, what: str = "mask") -> None:
    """DataError when two grids lie at unknown places, so that neither can be resampled to the other."""
    refuse_one_unoriented(volume, geometry, what=what)
    if not volume.geometry.oriented:
        raise DataError(
            f"the headers of {what} and image do not say where they lie in the body, so that the {what} cannot be "
            "resampled; allowed: headers with positions (write them, e.g. in Python with SimpleITK: SetOrigin, "
            f"SetDirection), or the {what} on the grid of the image"
        )


def reordered_to_grid(volume: Volume, geometry: Geometry, *, what: str = "mask") -> npt.NDArray[Any]:
    """The array of `volume` in the voxel order of `geometry`, as `on_grid` places it."""
    return on_grid(volume, geometry, what=what).array_zyx


def on_grid(
    volume: Volume,
    geometry: Geometry,
    *,
    what: str = "mask",
    target: str = "image",
    image: str = "",
    pad: bool = False,
    tolerance_voxels: float = PLACED_TOLERANCE_VOXELS,
) -> Volume:
    """`volume` in the voxel order of `geometry`; axes are only permuted and flipped, never resampled.

    A mask on the same physical grid but with another axis order is therefore transferred exactly. Corners may lie up to
    0.1 voxel apart, over 0.01 with a note. A segmentation that is cropped to its segments is padded by whole voxels.
    Two volumes whose files do not say how they lie are taken in the order of their files.

    Args:
        what: name of the volume in messages.
        target: name in messages of what has the grid.
        image: name of its file in messages, if it is known.
        pad: the volume may be cropped although it has no segments.
        tolerance_voxels: how far corners may lie apart, as a fraction of the smallest voxel edge.

    Raises:
        DataError: when the volume is on another physical grid; the message gives the difference in numbers. Also when
            one of both does not say how it lies.
    """
    refuse_one_unoriented(volume, geometry, what=what, image=image or f"its {target}")
    if not geometry.oriented and not _alike(volume.geometry, geometry):
        plain = _placed_in_file_order(replace(volume, segments=()), geometry, what)
        return replace(plain, geometry=geometry, segments=volume.segments)
    array, moved, start_xyz = on_axes_of(volume, geometry, f"{what} and {target}")
    notes = list(volume.notes)
    if (volume.segments or pad) and geometry.difference(moved, tolerance_voxels):
        array, moved = _padded(array, moved, start_xyz, geometry, (what, target))
        crop = "is cropped to its segments" if volume.segments else f"is smaller than the {target}"
        notes.append(f"the {what} {crop}; voxels outside of it are background")
    if difference := geometry.difference(moved, tolerance_voxels):
        raise DataError(f"{target} and {what} are on different grids: {difference}")
    if geometry.difference(moved):
        share = geometry.corner_distance_mm(moved) / min(geometry.spacing_zyx_mm)
        notes.append(f"the {what} lies up to {share:.2f} voxel beside the {target}; it is taken to be on its grid")
    return replace(volume, array_zyx=array, geometry=geometry, notes=tuple(notes))


def united_grid(first: Volume, second: Volume) -> Geometry | None:
    """The smallest grid that holds both volumes, in the voxel order of the first; None: they share no lattice.

    On one lattice, voxels of both lie on each other within 0.1 voxel, wherever each of them begins and ends.
    """
    try:
        _, moved, start = on_axes_of(second, first.geometry, "volumes")
    except DataError:
        return None
    if shifted_grid(first.geometry, start, moved.shape_zyx).difference(moved, PLACED_TOLERANCE_VOXELS):
        return None
    size, other = np.array(first.geometry.shape_zyx[::-1]), np.array(moved.shape_zyx[::-1])
    low, high = np.minimum(start, 0), np.maximum(size, start + other)
    if not low.any() and (high == size).all():
        return first.geometry
    x, y, z = (high - low).tolist()
    return shifted_grid(first.geometry, low, (z, y, x))


def shifted_grid(geometry: Geometry, start_xyz: npt.NDArray[np.int64], shape_zyx: tuple[int, int, int]) -> Geometry:
    """A grid of `shape_zyx` on the lattice of `geometry` that begins at its voxel `start_xyz`."""
    there = np.eye(4)
    there[:3, 3] = start_xyz
    return Geometry.from_affine(shape_zyx, geometry.affine @ there, geometry.dz_source, oriented=geometry.oriented)


def _alike(first: Geometry, second: Geometry) -> bool:
    """Two unoriented grids make the same assumptions about their directions (files of one format do)."""
    signs = [np.sign(np.round(one.affine[:3, :3] / max(one.spacing_zyx_mm), 9)).sum(axis=1) for one in (first, second)]
    return bool(np.array_equal(*signs))


def _placed_in_file_order(volume: Volume, geometry: Geometry, what: str) -> Volume:
    """`volume` on an unoriented grid, neither of them with the directions and origin that their formats assume."""
    plain, grid = (
        Geometry.from_affine(one.shape_zyx, one.in_file_order(), one.dz_source, oriented=False)
        for one in (volume.geometry, geometry)
    )
    return on_grid(replace(volume, geometry=plain), grid, what=what)


def on_axes_of(
    volume: Volume, geometry: Geometry, names: str
) -> tuple[npt.NDArray[Any], Geometry, npt.NDArray[np.int64]]:
    """(array zyx of `volume` with the axes of `geometry`, its own grid, voxel xyz of `geometry` nearest to its first).

    Args:
        names: of both, for the message.

    Raises:
        DataError: the axes of both are not parallel.
    """
    # Voxel steps of the volume in voxel steps of the target: a signed permutation when the axes are parallel.
    steps = np.linalg.solve(geometry.affine, volume.geometry.affine)[:3, :3]
    target_of = np.abs(steps).argmax(axis=0)
    if sorted(target_of) != [0, 1, 2]:
        raise DataError(f"{names} are on different grids: their axes are not parallel")
    array_xyz, affine = volume.array_zyx.transpose(2, 1, 0), volume.geometry.affine
    for axis in range(3):
        if steps[target_of[axis], axis] < 0:
            last = np.eye(4)
            last[axis, axis], last[axis, 3] = -1, array_xyz.shape[axis] - 1
            array_xyz, affine = np.flip(array_xyz, axis), affine @ last
    x, y, z = (int(axis) for axis in np.argsort(target_of))
    moved = permuted_geometry(array_xyz.shape, affine, (x, y, z), oriented=geometry.oriented)
    start_xyz = np.rint(np.linalg.solve(geometry.affine, moved.affine[:, 3])[:3]).astype(int)
    return array_xyz.transpose(z, y, x), moved, start_xyz


def cropped_or_padded(
    array_zyx: npt.NDArray[Any], start_zyx: npt.NDArray[np.int64], shape_zyx: tuple[int, int, int], outside: float = 0
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(an array of `shape_zyx`, the part of `array_zyx` that lies in it).

    Args:
        start_zyx: index in the result of the first voxel of `array_zyx`; may lie outside.
        outside: value of the voxels beyond `array_zyx`.
    """
    low = np.maximum(start_zyx, 0)
    high = np.maximum(low, np.minimum(start_zyx + array_zyx.shape, shape_zyx))
    inside = array_zyx[tuple(slice(a, b) for a, b in zip(low - start_zyx, high - start_zyx, strict=True))]
    whole = np.full(shape_zyx, outside, dtype=array_zyx.dtype)
    whole[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = inside
    return whole, inside


def _padded(
    array_zyx: npt.NDArray[Any],
    moved: Geometry,
    start_xyz: npt.NDArray[np.int64],
    geometry: Geometry,
    names: tuple[str, str],
) -> tuple[npt.NDArray[Any], Geometry]:
    """(the array padded with 0 or cut to the shape of `geometry`, its grid); the lattice must be the same."""
    what, target = names
    whole = shifted_grid(moved, -start_xyz, geometry.shape_zyx)
    if difference := geometry.difference(whole, PLACED_TOLERANCE_VOXELS):
        raise DataError(f"{target} and {what} are on different grids: {difference}")
    padded, inside = cropped_or_padded(array_zyx, start_xyz[::-1], geometry.shape_zyx)
    if outside := int(np.count_nonzero(array_zyx)) - int(np.count_nonzero(inside)):
        raise DataError(
            f"{outside} labelled voxels of the {what} lie outside of the {target}; "
            f"export it on the grid of the {target}"
        )
    return padded, whole


def resampled_nearest(volume: Volume, geometry: Geometry, outside: float = 0) -> npt.NDArray[Any]:
    """Nearest-neighbour resampling of `volume` to the grid of `geometry`, for label maps.

    Each voxel gets the value of the source voxel that contains its centre, and `outside` beyond `volume`; no other
    values occur.
    """
    from scipy import ndimage

    steps = np.linalg.solve(volume.geometry.affine, geometry.affine)
    # Affines are in the order x, y, z; arrays in the order z, y, x.
    matrix, offset = steps[2::-1, 2::-1], steps[2::-1, 3]
    moved: npt.NDArray[Any] = ndimage.affine_transform(
        np.ascontiguousarray(volume.array_zyx),
        matrix,
        offset,
        geometry.shape_zyx,
        order=0,
        mode="grid-constant",
        cval=outside,
    )
    return moved
