"""Cartilage coverage: which part of a bone surface a plate covers, including its rim and gaps between slices."""

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from sam2ft.metrics.biomarkers.rays import Lengths, Numbers, Surface

Chosen = npt.NDArray[np.bool_]

_HALF = 0.5
_DIAGONAL = 3**0.5
# Number of inner rays from which the plate's thickness next to a rim ray is estimated.
_NUM_NEIGHBOURS = 8


def covered_vertices(surface: Surface, lengths: Lengths, spacing_mm: tuple[float, float, float]) -> Chosen:
    """Whether each vertex of the bone surface is covered, i.e. whether its ray crosses the plate.

    Rim (vertices with a bare vertex within one voxel diagonal): voxel steps let rays cross only part of the plate. A
    rim vertex is covered if its ray crosses at least half of the length that the inner rays next to it cross, so that
    gained and lost area balance. Gaps between slices: a plate that is thinner than the voxel extent along its normal
    has gaps in the voxel grid. Gaps narrower than this extent count as covered; their lengths stay as measured.
    """
    found = lengths.largest_n >= _HALF
    # In voxels, because voxel steps, and therefore rims, are one voxel wide along each axis.
    places = surface.vertices_n3 / np.asarray(spacing_mm)
    rim = found & _within(places, ~found, _DIAGONAL)
    inner = found & ~rim & np.isfinite(lengths.lengths_n)
    if rim.any() and np.count_nonzero(inner) >= _NUM_NEIGHBOURS:
        _, beside = cKDTree(places[inner]).query(places[rim], k=_NUM_NEIGHBOURS)
        around = np.median(lengths.lengths_n[inner][beside], axis=1)
        found[rim] = ~(lengths.lengths_n[rim] < _HALF * around)
    return _closed(surface.vertices_n3, found, _HALF * np.abs(surface.normals_n3) @ np.asarray(spacing_mm))


def _closed(places_n3: Numbers, chosen: Chosen, radius_n: Numbers) -> Chosen:
    """Morphological closing of a set of points with a radius per point."""
    grown = chosen | _within(places_n3, chosen, radius_n)
    return chosen | (grown & ~_within(places_n3, ~grown, radius_n))


def _within(places_n3: Numbers, chosen: Chosen, radius: float | Numbers) -> Chosen:
    """Points that are within a radius of a chosen point."""
    if not chosen.any():
        return np.zeros(len(places_n3), dtype=np.bool_)
    farthest = float(np.max(radius)) * (1 + 1e-9)
    distances, _ = cKDTree(places_n3[chosen]).query(places_n3, distance_upper_bound=farthest)
    near: Chosen = distances <= radius
    return near
