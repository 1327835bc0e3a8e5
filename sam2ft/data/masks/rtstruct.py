"""Reading RTSTRUCT files: contours of regions in millimetres, filled on the slices of the image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from sam2ft.core.errors import DataError, listed, naming
from sam2ft.core.geometry import Geometry
from sam2ft.data.dicom.file import DicomImage, read_complete
from sam2ft.data.dicom.header import guarded, numbers, raw_value, text
from sam2ft.data.dicom.read_segmentation import refuse_other_frame_of_reference, slices_of_image
from sam2ft.data.images.grids import LPS_TO_RAS, PLACED_TOLERANCE_VOXELS, Segment, Volume
from sam2ft.data.masks.layers import Layer
from sam2ft.data.masks.polygons import combined, filled_polygon

# Millimetres are written with few digits: a contour through the centres of voxels, as programs trace masks, stays one.
_ON_CENTRE_VOXELS = 0.02
_MOST_SHOWN = 5
_AREAS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True)
class StructureLayers:
    """The regions of a file on the grid of an image: a layer for each that has an area."""

    layers: tuple[Layer, ...]
    notes: tuple[str, ...]


def read_structures(path: Path, image: Volume) -> StructureLayers:
    """The regions of interest of an RTSTRUCT file, filled on the slices of `image`.

    A voxel belongs to a region when its centre lies inside of a contour or on it. Contours of one region in one slice
    that lie in each other are holes (and islands in holes); a hole that a keyhole joins to its outline is one, too.

    Raises:
        DataError: naming the file; when it cannot be read, has other coordinates than the image, or a contour lies
            between slices, in another plane or outside of the image.
    """
    with naming(path), guarded(path):
        header = read_complete(path)
        regions = {_number(item, "ROINumber"): item for item in header.get("StructureSetROISequence") or ()}
        of_image = slices_of_image(image)
        layers, skipped, every = [], [], []
        drawn = header.get("ROIContourSequence") or ()
        if not drawn:
            raise DataError(f"names {len(regions)} regions and holds no contours (ROIContourSequence); export it again")
        for item in drawn:
            number = _number(item, "ReferencedROINumber")
            if number not in regions:
                raise DataError("contours of a region that it does not name (ReferencedROINumber); export it again")
            region = regions[number]
            name = text(region, "ROIName")
            refuse_other_frame_of_reference(text(region, "ReferencedFrameOfReferenceUID"), of_image)
            areas = list(_areas(item, name, image, of_image))
            every += areas
            if areas:
                mask = _filled(areas, name, image.geometry.shape_zyx)
                layers.append(Layer(Segment(number, name), mask))
            else:
                skipped.append(name)
        count = len(skipped) + len(regions.keys() - {_number(item, "ReferencedROINumber") for item in drawn})
        notes = (f"{count} regions without a closed contour (points) are left out",) if count else ()
        without = [layer.segment.name for layer in layers if not layer.mask.any()]
        return StructureLayers(tuple(layers), (*notes, *_lost(every, without)))


def _number(item: pydicom.Dataset, attribute: str) -> int:
    found = numbers(item, attribute)
    if found is None or found[0] != int(found[0]):
        raise DataError(f"a region has no {attribute}; export it again")
    return int(found[0])


@dataclass(frozen=True)
class _Area:
    """A closed contour in one plane of voxels."""

    axis: int
    """Axis xyz of the image across the plane."""
    slice: int
    points: npt.NDArray[np.float64]
    """(n, 2), indices along the other two axes, in the order xyz."""
    by_xor: bool
    beyond_mm: float = 0.0
    """How far it reaches beyond the image."""


def _lost(areas: Sequence[_Area], without: Sequence[str]) -> Iterator[str]:
    """Notes on what contours hold and the mask does not."""
    if cut := [area.beyond_mm for area in areas if area.beyond_mm]:
        yield f"{len(cut)} contours reach up to {max(cut):.3g} mm beyond the image; what lies outside is left out"
    if without:
        yield f"no centre of a voxel lies in the contours of {listed(without, _MOST_SHOWN)}: it has no voxels"


def _areas(item: pydicom.Dataset, name: str, image: Volume, of_image: Sequence[DicomImage]) -> Iterator[_Area]:
    inverse = np.linalg.inv(LPS_TO_RAS @ image.geometry.affine)
    for number, contour in enumerate(item.get("ContourSequence") or (), start=1):
        kind = text(contour, "ContourGeometricType")
        if kind == "POINT":
            continue
        where = f"contour {number} of region {name!r}"
        if kind not in _AREAS:
            raise DataError(f"{where} is no closed area ({kind or 'no ContourGeometricType'}); allowed: CLOSED_PLANAR")
        places = _points(contour, where)
        voxels = (inverse[:3, :3] @ places.T + inverse[:3, 3:]).T
        places = _on_centres(_on_given_slices(voxels, image, of_image))
        yield _area(places, where, image.geometry, by_xor=kind == _AREAS[1])


def _on_centres(voxels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Voxel indices, those very near to whole ones as these."""
    whole = np.rint(voxels)
    return np.where(np.abs(voxels - whole) <= _ON_CENTRE_VOXELS, whole, np.round(voxels, 6))


def _on_given_slices(
    voxels: npt.NDArray[np.float64], image: Volume, of_image: Sequence[DicomImage]
) -> npt.NDArray[np.float64]:
    """Voxel indices xyz where the slices of the image count as they were given, before they were resampled.

    A contour lies in a given slice; an index between two of them is a place between two slices.
    """
    if image.nearest_slices is None:
        return voxels
    axis, inverse = 2 - image.nearest_axis, np.linalg.inv(LPS_TO_RAS @ image.geometry.affine)
    given = np.array([(inverse @ [*one.position_mm, 1.0])[axis] for one in of_image])
    order = np.argsort(given)
    places = voxels[:, axis]
    inside = np.interp(places, given[order], np.arange(len(given), dtype=np.float64)[order])
    moved = voxels.copy()
    outside = np.minimum(places - given.min(), 0) + np.maximum(places - given.max(), 0)
    moved[:, axis] = inside + np.sign(given[-1] - given[0]) * outside
    return moved


def _points(contour: pydicom.Dataset, where: str) -> npt.NDArray[np.float64]:
    """(n, 3) LPS mm."""
    values = raw_value(contour, "ContourData")
    try:
        flat = np.array([float(value) for value in values], dtype=np.float64)
    except (TypeError, ValueError):
        flat = np.array([np.nan])
    if len(flat) < 9 or len(flat) % 3 or not np.isfinite(flat).all():
        raise DataError(f"{where} has no ContourData of three or more points of three numbers; export it again")
    return flat.reshape(-1, 3)


def _area(voxels: npt.NDArray[np.float64], where: str, geometry: Geometry, *, by_xor: bool) -> _Area:
    """A contour in its plane of voxels; DataError when it lies in none."""
    spread = np.ptp(voxels, axis=0)
    axis = int(spread.argmin())
    if spread[axis] > PLACED_TOLERANCE_VOXELS:
        raise DataError(
            f"{where} lies in no plane of voxels of the image (it crosses {spread[axis]:.2g} slices); allowed: "
            "contours in its slices; export it for this series, or as a segmentation (NIfTI, DICOM-SEG)"
        )
    place = float(voxels[:, axis].mean())
    if abs(place - round(place)) > PLACED_TOLERANCE_VOXELS:
        beside = abs(place - round(place)) * geometry.spacing_zyx_mm[::-1][axis]
        raise DataError(
            f"{where} lies {beside:.3g} mm beside the nearest slice of the image; allowed: contours in its slices, "
            "within 0.1 voxel; export it for this series, or as a segmentation (NIfTI, DICOM-SEG)"
        )
    size = geometry.shape_zyx[::-1]
    if not 0 <= round(place) < size[axis]:
        raise DataError(f"{where} lies outside of the slices of the image; it is that of another series")
    others = [other for other in range(3) if other != axis]
    points, sides = voxels[:, others], np.array([size[other] for other in others])
    # A grid reaches half a voxel beyond the centres of its outermost voxels.
    if (points.max(axis=0) < -0.5).any() or (points.min(axis=0) > sides - 0.5).any():
        raise DataError(f"{where} lies outside of the image; it is that of another series")
    beyond = np.maximum(-0.5 - points.min(axis=0), points.max(axis=0) - (sides - 0.5))
    edges = np.array(geometry.spacing_zyx_mm[::-1])[others]
    cut = float((beyond * edges)[beyond > PLACED_TOLERANCE_VOXELS].max(initial=0.0))
    return _Area(axis, round(place), points, by_xor, cut)


def _filled(areas: Sequence[_Area], name: str, shape_zyx: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    axes = {area.axis for area in areas}
    if len(axes) > 1:
        raise DataError(f"the contours of region {name!r} lie in {len(axes)} planes; allowed: one, that of the slices")
    (axis,) = axes
    mask_xyz: npt.NDArray[Any] = np.zeros(shape_zyx[::-1], dtype=bool)
    plane = tuple(size for other, size in enumerate(mask_xyz.shape) if other != axis)
    by_slice: dict[int, list[_Area]] = {}
    for area in areas:
        by_slice.setdefault(area.slice, []).append(area)
    for index, found in by_slice.items():
        parts = [filled_polygon(area.points, plane) for area in found]
        try:
            whole = combined(parts, by_xor=any(area.by_xor for area in found))
        except DataError as error:
            raise DataError(f"region {name!r}, slice {index}: {error}") from None
        mask_xyz[tuple(index if other == axis else slice(None) for other in range(3))] = whole
    return mask_xyz.transpose(2, 1, 0)
