"""Distances between the voxel boundaries of two masks, in mm; one crop and two distance transforms serve all four."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.prompts import Mask
from sam2ft.metrics.measurement import FunctionMetric, Level, MaskPair, Measurement, metric

Distances = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistances:
    """For every boundary voxel of one mask, the distance in mm to the nearest boundary voxel of the other."""

    to_reference: Distances
    """One per boundary voxel of the prediction."""
    to_prediction: Distances
    """One per boundary voxel of the reference."""

    @property
    def hd_mm(self) -> float:
        return float(max(self.to_reference.max(), self.to_prediction.max()))

    @property
    def hd95_mm(self) -> float:
        """The larger of the two directed 95th percentiles (MONAI's definition; others pool both directions)."""
        return float(max(np.percentile(self.to_reference, 95), np.percentile(self.to_prediction, 95)))

    @property
    def assd_mm(self) -> float:
        """Mean over the boundary voxels of both masks together."""
        return self._of_both(lambda distances: float(distances.sum())) / self._count

    def nsd(self, tolerance_mm: float) -> float:
        """Share of the boundary voxels of both masks that lie within the tolerance of the other boundary."""
        return self._of_both(lambda distances: int((distances <= tolerance_mm).sum())) / self._count

    @property
    def _count(self) -> int:
        return len(self.to_reference) + len(self.to_prediction)

    def _of_both(self, of: Callable[[Distances], float]) -> float:
        return of(self.to_reference) + of(self.to_prediction)


def boundary(mask: Mask) -> Mask:
    """Voxels of the mask with a face neighbour outside it; beyond the array's edge is outside."""
    inside: Mask = ndimage.binary_erosion(mask)
    return mask & ~inside


def _crop(mask: Mask) -> tuple[slice, ...]:
    """The smallest block that holds a non-empty mask."""
    axes = range(mask.ndim)
    projections = (mask.any(axis=tuple(other for other in axes if other != axis)) for axis in axes)
    filled = (np.flatnonzero(projection) for projection in projections)
    return tuple(slice(int(indices[0]), int(indices[-1]) + 1) for indices in filled)


def surface_distances(prediction: Mask, reference: Mask, spacing_mm: tuple[float, ...]) -> SurfaceDistances:
    """Distances of two non-empty masks of one shape, 2-D or 3-D, with one spacing per axis.

    Errors: ValueError for an empty mask, which has no boundary to measure to.
    """
    if not prediction.any() or not reference.any():
        raise ValueError("surface distances need two non-empty masks; an empty one has a status instead")
    block = _crop(prediction | reference)
    edge_of_prediction, edge_of_reference = boundary(prediction[block]), boundary(reference[block])
    from_reference = ndimage.distance_transform_edt(~edge_of_reference, sampling=spacing_mm)
    from_prediction = ndimage.distance_transform_edt(~edge_of_prediction, sampling=spacing_mm)
    return SurfaceDistances(from_reference[edge_of_prediction], from_prediction[edge_of_reference])


@dataclass(frozen=True)
class _Measured:
    """Distances of one slice or of the volume; None where the label is not in both masks."""

    level: Level
    slice: int | None
    status: str
    distances: SurfaceDistances | None


def _measure_all(pair: MaskPair) -> list[_Measured]:
    spacing = pair.geometry.spacing_zyx_mm
    found = []
    for index, counts in pair.slice_overlaps.items():
        both = counts.status == "ok"
        masks = (pair.prediction_zyx[index], pair.reference_zyx[index])
        found.append(_Measured("slice", index, counts.status, surface_distances(*masks, spacing[1:]) if both else None))
    both = pair.status == "ok"
    volume = surface_distances(pair.prediction_zyx, pair.reference_zyx, spacing) if both else None
    return [*found, _Measured("volume", None, pair.status, volume)]


def _of_distances(
    name: str, column: str, of: Callable[[SurfaceDistances, MaskPair], float], missed: Callable[[MaskPair], float]
) -> FunctionMetric:
    @metric(name)
    def measure(pair: MaskPair) -> Iterator[Measurement]:
        for one in pair.once("surface distances", _measure_all):
            if one.distances is not None:
                value = of(one.distances, pair)
            else:
                value = math.nan if one.status == "absent" else missed(pair)
            yield Measurement(one.level, column, value, slice=one.slice, unit="1" if name == "nsd" else "mm")

    return measure


def _far(pair: MaskPair) -> float:
    return pair.missed_distance_mm


hd = _of_distances("hd", "hd_mm", lambda distances, _: distances.hd_mm, _far)
hd95 = _of_distances("hd95", "hd95_mm", lambda distances, _: distances.hd95_mm, _far)
assd = _of_distances("assd", "assd_mm", lambda distances, _: distances.assd_mm, _far)
nsd = _of_distances("nsd", "nsd", lambda distances, pair: distances.nsd(pair.settings.nsd_tolerance_mm), lambda _: 0.0)
