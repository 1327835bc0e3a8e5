"""Which part of a bone a plate covers: where its rays cross it, decided at the rim and between slices."""

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from sam2ft.metrics.biomarkers.rays import Lengths, Numbers, Surface

Chosen = npt.NDArray[np.bool_]

_HALF = 0.5
_DIAGONAL = 3**0.5
# Inner rays that say how thick the plate is beside a ray at its rim.
_NUM_NEIGHBOURS = 8


def covered(surface: Surface, lengths: Lengths, spacing_mm: tuple[float, float, float]) -> Chosen:
    """Whether each vertex of the surface is covered: its ray crosses the plate.

    At the rim (a bare vertex within one voxel diagonal) rays pass through the stairs of the raster and cross parts of
    the plate: covered are those that cross at least half of what the inner rays beside them do, so that as much area is
    lost as is won. Between slices: where the plate is thinner than the voxels are along its normal, the raster leaves
    gaps in it; gaps narrower than a voxel's extent along the normal are covered, with what their rays cross.
    """
    found = lengths.largest_n >= _HALF
    # In voxels: stairs, and so rims, are as wide along each axis as a voxel is.
    places = surface.vertices_n3 / np.asarray(spacing_mm)
    rim = found & _within(places, ~found, _DIAGONAL)
    inner = found & ~rim & np.isfinite(lengths.lengths_n)
    if rim.any() and np.count_nonzero(inner) >= _NUM_NEIGHBOURS:
        _, beside = cKDTree(places[inner]).query(places[rim], k=_NUM_NEIGHBOURS)
        around = np.median(lengths.lengths_n[inner][beside], axis=1)
        found[rim] = ~(lengths.lengths_n[rim] < _HALF * around)
    return _closed(surface.vertices_n3, found, _HALF * np.abs(surface.normals_n3) @ np.asarray(spacing_mm))


def _closed(places_n3: Numbers, chosen: Chosen, radius_n: Numbers) -> Chosen:
    """Morphological closing of a set of places, its radius given at each place."""
    grown = chosen | _within(places_n3, chosen, radius_n)
    return chosen | (grown & ~_within(places_n3, ~grown, radius_n))


def _within(places_n3: Numbers, chosen: Chosen, radius: float | Numbers) -> Chosen:
    """Places no farther than a radius from a chosen one."""
    if not chosen.any():
        return np.zeros(len(places_n3), dtype=np.bool_)
    farthest = float(np.max(radius)) * (1 + 1e-9)
    distances, _ = cKDTree(places_n3[chosen]).query(places_n3, distance_upper_bound=farthest)
    near: Chosen = distances <= radius
    return near
