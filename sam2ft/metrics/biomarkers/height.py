"""Intervertebral disc height in mm (area / axis length in sagittal planes) and disc height index, per instance."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sam2ft.core.geometry import Geometry
from sam2ft.core.prompts import Mask
from sam2ft.metrics.biomarkers.both_masks import on_both_masks
from sam2ft.metrics.instances import mask_instances
from sam2ft.metrics.measurement import MaskPair, Measurement

NUM_CENTRAL_SLICES = 3
# Beyond this angle, planes of voxels are nearer to coronal or axial than to sagittal.
MOST_DEGREES_FROM_LEFT_RIGHT = 45.0
# In cosines: of axes that lie equally near, the slice axis is taken, whatever the rounding of an affine.
_EQUAL = 1e-6
UNITS = {
    "height": "mm",
    "height_anterior": "mm",
    "height_middle": "mm",
    "height_posterior": "mm",
    "area": "mm2",
}
"""height: area / length of the disc's axis; anterior, middle, posterior: the same in each third of the axis; area: area
of the disc in the plane. Each value is the median over the three most central planes of the instance."""
INDEX_UNITS = {"DHI": "1"}
"""DHI, disc height index: height / mean height of the vertebrae above and below (Masuda et al. 2005)."""


@dataclass(frozen=True)
class TissueHeightMetric:
    """Height of each 3-D instance (one row per instance), and the mean over instances as the row of the whole tissue.

    Instances are components without specks, or given ids (`metrics/instances.py`), numbered by the reference. An
    instance that is in one mask only is NaN for the other mask and has its own status. They are measured in sagittal
    planes of voxels, whatever the slice axis (`sagittal_axis`); everything is NaN if the grid has none. If the label
    table names the vertebrae of a disc, its height index (DHI) is measured too.
    """

    name: str = "tissueheight"
    needs: tuple[str, ...] = ()
    biomarker: bool = True

    def measure(self, pair: MaskPair) -> Iterator[Measurement]:
        units = UNITS if pair.vertebrae_zyx is None else UNITS | INDEX_UNITS
        references = _of_instances(pair.reference_instances_zyx, pair)
        predictions = _of_instances(pair.prediction_instances_zyx, pair)
        all_nan = dict.fromkeys(units, math.nan)
        for instance in sorted(references.keys() | predictions.keys()):
            reference, prediction = references.get(instance), predictions.get(instance)
            status = "missed" if prediction is None else "spurious" if reference is None else "ok"
            for definition, unit in units.items():
                yield on_both_masks(
                    self.name,
                    definition,
                    unit,
                    ((reference or all_nan)[definition], int(reference is not None)),
                    ((prediction or all_nan)[definition], int(prediction is not None)),
                    instance=instance,
                    status=status,
                )
        for definition, unit in units.items():
            of_reference, of_prediction = (
                (_mean([values[definition] for values in found.values()]), len(found))
                for found in (references, predictions)
            )
            yield on_both_masks(self.name, definition, unit, of_reference, of_prediction)


def _mean(values: list[float]) -> float:
    """Mean over the instances that have a value."""
    found = [value for value in values if not math.isnan(value)]
    return math.fsum(found) / len(found) if found else math.nan


def _of_instances(instances_zyx: npt.NDArray[np.int32], pair: MaskPair) -> dict[int, dict[str, float]]:
    """Instance number -> name -> value, the median over the most central sagittal planes of the instance."""
    numbers = np.unique(instances_zyx[instances_zyx > 0]).tolist()
    axis = sagittal_axis(pair.geometry)
    vertebrae = None if pair.vertebrae_zyx is None else pair.once("vertebrae", _vertebrae)
    if axis is None:
        units = UNITS if vertebrae is None else UNITS | INDEX_UNITS
        return {number: dict.fromkeys(units, math.nan) for number in numbers}
    rows, columns = (one for one in range(3) if one != axis)
    spacing = pair.geometry.spacing_zyx_mm[rows], pair.geometry.spacing_zyx_mm[columns]
    towards_front = anterior_direction(pair.geometry, (rows, columns))
    instances = np.moveaxis(instances_zyx, axis, 0)
    found = {}
    for number in numbers:
        mask = instances == number
        planes = []
        for index in _central_planes(mask):
            values = disc_heights(mask[index], spacing, towards_front)
            if vertebrae is not None:
                beside = vertebra_height(mask[index], np.moveaxis(vertebrae, axis, 0)[index], spacing)
                values["DHI"] = values["height"] / beside
            planes.append(values)
        found[number] = {name: _median([values[name] for values in planes]) for name in planes[0]}
    return found


def _vertebrae(pair: MaskPair) -> npt.NDArray[np.int32]:
    """Numbers of the vertebrae of the reference, without specks."""
    assert pair.vertebrae_zyx is not None, "checked by the caller"
    voxel_mm3 = pair.geometry.voxel_volume_mm3
    return mask_instances(pair.vertebrae_zyx, voxel_mm3, pair.min_instance_mm3, pair.given_vertebrae_zyx).numbers


def _median(values: list[float]) -> float:
    """Median over the planes that have a value."""
    found = [value for value in values if not math.isnan(value)]
    return float(np.median(found)) if found else math.nan


def _central_planes(mask: Mask) -> list[int]:
    """The three planes (or fewer) of an instance that are nearest to the middle of its extent, in order.

    Args:
        mask: 3-D; its first axis counts the planes.
    """
    filled = np.flatnonzero(mask.any(axis=(1, 2)))
    middle = (filled[0] + filled[-1]) / 2
    nearest = sorted(filled.tolist(), key=lambda index: (abs(index - middle), index))
    return sorted(nearest[:NUM_CENTRAL_SLICES])


def sagittal_axis(geometry: Geometry) -> int | None:
    """Axis (0 z, 1 y, 2 x) whose planes of voxels are sagittal: the one that runs nearest to left-right.

    None for a grid so oblique that no axis lies within 45 degrees of left-right, and for one whose file does not say
    how it lies. Of axes that lie equally near, the slice axis (0) is taken.
    """
    if not geometry.oriented:
        return None
    directions = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    along = np.abs(directions[0])[::-1]
    if along.max() < math.cos(math.radians(MOST_DEGREES_FROM_LEFT_RIGHT)) - _EQUAL:
        return None
    return int(np.flatnonzero(along >= along.max() - _EQUAL)[0])


def anterior_direction(geometry: Geometry, axes: tuple[int, int] = (1, 2)) -> tuple[float, float]:
    """Component towards anterior (RAS +y) of one mm along two axes of the array (0 z, 1 y, 2 x)."""
    columns = geometry.affine[1, :3]
    first, second = (float(columns[2 - axis] / geometry.spacing_zyx_mm[axis]) for axis in axes)
    return first, second


def disc_heights(
    mask_yx: Mask, spacing_yx_mm: tuple[float, float], towards_front_yx: tuple[float, float]
) -> dict[str, float]:
    """Height (mm), heights of the thirds (mm) and area (mm2) of one disc in one sagittal plane.

    The disc's axis is the direction of largest spread in mm (principal axis); its length is measured from the first to
    the last pixel, both included. Its front is the anterior end.

    Args:
        mask_yx: mask of the disc in the plane, not empty.
        spacing_yx_mm: pixel spacing of the plane.
        towards_front_yx: anterior direction in the plane, from `anterior_direction`.
    """
    pixel_mm2 = spacing_yx_mm[0] * spacing_yx_mm[1]
    points = np.argwhere(mask_yx) * np.asarray(spacing_yx_mm)
    centred = points - points.mean(axis=0)
    axis = _axis(centred)
    if axis @ np.asarray(towards_front_yx) < 0:
        axis = -axis
    along = centred @ axis
    half_pixel = _half_pixel(axis, spacing_yx_mm)
    back, front = float(along.min()) - half_pixel, float(along.max()) + half_pixel
    length = front - back
    edges = np.linspace(back, front, 4)
    thirds = [_share_within(along, half_pixel, low, high) for low, high in pairwise(edges)]
    posterior, middle, anterior = (area * pixel_mm2 / (length / 3) for area in thirds)
    return {
        "height": len(points) * pixel_mm2 / length,
        "height_anterior": anterior,
        "height_middle": middle,
        "height_posterior": posterior,
        "area": len(points) * pixel_mm2,
    }


def _share_within(centres: npt.NDArray[np.float64], half_width: float, low: float, high: float) -> float:
    """Number of pixels between `low` and `high`; a pixel across an edge counts with its fraction inside."""
    inside = np.minimum(centres + half_width, high) - np.maximum(centres - half_width, low)
    return float(np.clip(inside, 0, None).sum() / (2 * half_width))


def vertebra_height(disc_yx: Mask, vertebrae_yx: npt.NDArray[np.int32], spacing_yx_mm: tuple[float, float]) -> float:
    """Mean height in mm of the vertebrae directly above and below a disc in one plane; NaN if there is neither.

    Only the part of a vertebra that lies over the disc counts (not its arch): the height is the area of this part
    divided by its length along the disc's axis. If the plane shows only one of the two, its height is used alone.
    """
    spacing = np.asarray(spacing_yx_mm)
    points = np.argwhere(disc_yx) * spacing
    centre = points.mean(axis=0)
    axis = _axis(points - centre)
    half_pixel = _half_pixel(axis, spacing_yx_mm)
    of_disc = (points - centre) @ axis
    voxels = np.argwhere(vertebrae_yx > 0)
    numbers, away = vertebrae_yx[tuple(voxels.T)], voxels * spacing - centre
    along, across = away @ axis, away @ np.array([-axis[1], axis[0]])
    over = (along >= of_disc.min()) & (along <= of_disc.max())
    nearest: dict[bool, tuple[float, float]] = {}
    for number in np.unique(numbers[over]).tolist():
        part = over & (numbers == number)
        distance = float(across[part].mean())
        length = float(np.ptp(along[part])) + 2 * half_pixel
        height = int(part.sum()) * float(spacing.prod()) / length
        if abs(distance) < nearest.get(distance > 0, (math.inf, 0.0))[0]:
            nearest[distance > 0] = (abs(distance), height)
    return _mean([height for _, height in nearest.values()])


def _axis(centred_n2: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Unit vector of the direction of largest spread (first principal axis)."""
    return np.asarray(np.linalg.eigh(centred_n2.T @ centred_n2)[1][:, -1], dtype=np.float64)


def _half_pixel(axis: npt.NDArray[np.float64], spacing_yx_mm: tuple[float, float]) -> float:
    """Half extent of a pixel along an axis in mm."""
    return float(np.abs(axis) @ np.asarray(spacing_yx_mm)) / 2
