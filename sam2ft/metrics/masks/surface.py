"""Surface distances in mm between the voxel boundaries of two masks: Hausdorff (HD, HD95), ASSD and NSD.

All four metrics share one crop and one pair of distance computations.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

from sam2ft.core.prompts import Mask
from sam2ft.metrics.measurement import FunctionMetric, MaskPair, Measurement, metric
from sam2ft.metrics.regions import Region, regions_of

Distances = npt.NDArray[np.float64]

TREE_BELOW_SHARE = 1 / 16
"""Share of target voxels in a block below which a search tree is faster than a distance transform."""


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance in mm of every element of one surface to the nearest element of the other: here of boundary voxels."""

    to_reference: Distances
    """One value per element of the prediction."""
    to_prediction: Distances
    """One value per element of the reference."""
    sizes_of_prediction: Distances
    """Weight of each element in means and shares: 1 for a voxel."""
    sizes_of_reference: Distances

    @property
    def hd_mm(self) -> float:
        """Hausdorff distance: the larger of the two directed maxima."""
        return float(max(self.to_reference.max(), self.to_prediction.max()))

    @property
    def hd95_mm(self) -> float:
        """Larger of the two directed 95th percentiles (the definition of MONAI; others pool both directions)."""
        return float(max(np.percentile(self.to_reference, 95), np.percentile(self.to_prediction, 95)))

    @property
    def assd_mm(self) -> float:
        """Average symmetric surface distance: mean over both surfaces together, weighted by size."""
        of_prediction = (self.to_reference * self.sizes_of_prediction).sum()
        return float((of_prediction + (self.to_prediction * self.sizes_of_reference).sum()) / self._size)

    def nsd(self, tolerance_mm: float) -> float:
        """Normalized surface Dice: share of both surfaces that lies within the tolerance of the other surface."""
        near = self.sizes_of_prediction[self.to_reference <= tolerance_mm].sum()
        near += self.sizes_of_reference[self.to_prediction <= tolerance_mm].sum()
        return float(near / self._size)

    @property
    def _size(self) -> float:
        return float(self.sizes_of_prediction.sum() + self.sizes_of_reference.sum())


def boundary(mask: Mask) -> Mask:
    """Voxels of the mask that have a face neighbour outside it; everything beyond the array counts as outside."""
    # Shifted views: ten times as fast as ndimage.binary_erosion.
    padded = np.pad(mask, 1)
    middle = (slice(1, -1),) * mask.ndim
    inside = mask.copy()
    for axis in range(mask.ndim):
        for neighbour in (slice(0, -2), slice(2, None)):
            inside &= padded[(*middle[:axis], neighbour, *middle[axis + 1 :])]
    return mask & ~inside


def distances_to(targets: Mask, points: Mask, spacing_mm: tuple[float, ...]) -> Distances:
    """Distance in mm of each set voxel of `points` to the nearest set voxel of `targets`.

    A search tree is used if targets are few in their block, as 3-D boundaries are (three times as fast as a distance
    transform, and without arrays of the block's size), else a distance transform. In both cases distances are computed
    from whole voxels, so that a distance of two 0.7 mm voxels is exactly 1.4 mm.

    Returns:
        (n,) distances in raster order of `points`.
    """
    distances = np.zeros(np.count_nonzero(points))
    is_apart = ~targets[points]
    at = np.argwhere(points & ~targets)
    if not len(at):
        return distances
    if np.count_nonzero(targets) < TREE_BELOW_SHARE * targets.size:
        corners = np.argwhere(targets)
        # Unbalanced and loose: three times as fast to build and, on concentric spheres, to search.
        tree = spatial.cKDTree(corners * spacing_mm, balanced_tree=False, compact_nodes=False)
        nearest = corners[tree.query(at * spacing_mm)[1]]
    else:
        found = ndimage.distance_transform_edt(
            ~targets, sampling=spacing_mm, return_distances=False, return_indices=True
        )
        nearest = found[(slice(None), *at.T)].T
    distances[is_apart] = np.sqrt((((nearest - at) * spacing_mm) ** 2).sum(axis=1))
    return distances


def surface_distances(prediction: Mask, reference: Mask, spacing_mm: tuple[float, ...]) -> SurfaceDistances:
    """Surface distances of two non-empty masks of the same shape, 2-D or 3-D, with one spacing per axis.

    Raises:
        ValueError: A mask is empty and has no boundary.
    """
    check_not_empty(prediction, reference)
    of_prediction, of_reference = boundary(prediction), boundary(reference)
    to_reference = distances_to(of_reference, of_prediction, spacing_mm)
    to_prediction = distances_to(of_prediction, of_reference, spacing_mm)
    return SurfaceDistances(to_reference, to_prediction, np.ones(len(to_reference)), np.ones(len(to_prediction)))


def check_not_empty(prediction: Mask, reference: Mask) -> None:
    """Check that both masks have a surface.

    Raises:
        ValueError: A mask is empty.
    """
    if not prediction.any() or not reference.any():
        raise ValueError("surface distances need two non-empty masks; an empty mask is reported by its status instead")


Measured = list[tuple[Region, SurfaceDistances | None]]
"""Every slice, then the volume, with its distances; None where the label is not in both masks."""
SurfacesOf = Callable[[Mask, Mask, tuple[float, ...]], SurfaceDistances]


def surface_metrics(definition: str, surfaces_of: SurfacesOf) -> dict[str, FunctionMetric]:
    """The metrics hd, hd95, assd and nsd for one definition of the boundary.

    Args:
        definition: suffix of the metric names and of the columns.
        surfaces_of: computes the distances from (prediction, reference, spacing in mm).

    Returns:
        Name without suffix -> metric.
    """

    def measure_all(pair: MaskPair) -> Measured:
        return [
            (one, surfaces_of(one.prediction, one.reference, one.spacing_mm) if one.status == "ok" else None)
            for one in regions_of(pair)
        ]

    def metric_of(name: str, unit: str, of: Callable[[SurfaceDistances, MaskPair], float]) -> FunctionMetric:
        column = f"{name}{definition}_mm" if unit == "mm" else f"{name}{definition}"

        @metric(f"{name}{definition}")
        def measure(pair: MaskPair) -> Iterator[Measurement]:
            missed = pair.missed_distance_mm if unit == "mm" else 0.0
            for region, surfaces in pair.once(f"surfaces{definition}", measure_all):
                if surfaces is not None:
                    value = of(surfaces, pair)
                else:
                    value = math.nan if region.status == "absent" else missed
                yield Measurement(region.level, column, value, slice=region.slice, unit=unit)

        return measure

    return {
        "hd": metric_of("hd", "mm", lambda surfaces, _: surfaces.hd_mm),
        "hd95": metric_of("hd95", "mm", lambda surfaces, _: surfaces.hd95_mm),
        "assd": metric_of("assd", "mm", lambda surfaces, _: surfaces.assd_mm),
        "nsd": metric_of("nsd", "1", lambda surfaces, pair: surfaces.nsd(pair.settings.nsd_tolerance_mm)),
    }


_METRICS = surface_metrics("", surface_distances)
hd, hd95, assd, nsd = (_METRICS[name] for name in ("hd", "hd95", "assd", "nsd"))
